//! Reason codes of MQTT 5 (section 2.4), and what a receipt is in them.
use crate::{
    keyring::LoginError,
    uplink::{Busy, Receipt, Refusal},
};
use rmqtt_codec::v3::ConnectAckReason;

pub(super) const SUCCESS: u8 = 0x00;
/// Taken, and of no effect.
pub(super) const NOBODY: u8 = 0x10;
pub(super) const NO_SUBSCRIPTION: u8 = 0x11;
pub(super) const UNSPECIFIED: u8 = 0x80;
pub(super) const MALFORMED: u8 = 0x81;
pub(super) const PROTOCOL_ERROR: u8 = 0x82;
pub(super) const IMPLEMENTATION_SPECIFIC: u8 = 0x83;
pub(super) const UNSUPPORTED_VERSION: u8 = 0x84;
pub(super) const BAD_USER_OR_PASSWORD: u8 = 0x86;
pub(super) const NOT_AUTHORIZED: u8 = 0x87;
pub(super) const SERVER_BUSY: u8 = 0x89;
pub(super) const SHUTTING_DOWN: u8 = 0x8b;
pub(super) const BAD_AUTHENTICATION_METHOD: u8 = 0x8c;
pub(super) const KEEP_ALIVE_TIMEOUT: u8 = 0x8d;
pub(super) const TAKEN_OVER: u8 = 0x8e;
pub(super) const TOPIC_FILTER_INVALID: u8 = 0x8f;
pub(super) const TOPIC_NAME_INVALID: u8 = 0x90;
pub(super) const PACKET_ID_IN_USE: u8 = 0x91;
pub(super) const RECEIVE_MAX_EXCEEDED: u8 = 0x93;
pub(super) const TOPIC_ALIAS_INVALID: u8 = 0x94;
pub(super) const PACKET_TOO_LARGE: u8 = 0x95;
pub(super) const QUOTA_EXCEEDED: u8 = 0x97;
pub(super) const PAYLOAD_FORMAT_INVALID: u8 = 0x99;
pub(super) const RETAIN_NOT_SUPPORTED: u8 = 0x9a;
pub(super) const QOS_NOT_SUPPORTED: u8 = 0x9b;
pub(super) const NO_SHARED_SUBSCRIPTION: u8 = 0x9e;
pub(super) const RATE_EXCEEDED: u8 = 0x9f;
pub(super) const NO_SUBSCRIPTION_IDS: u8 = 0xa1;

/// A will would have to be published later with the rights of a session that is gone.
pub(super) const NO_WILLS: &str = "wills are not supported";

/// What a PUBACK says of a receipt.
pub(super) fn of(receipt: &Receipt) -> (u8, Option<String>) {
    match receipt {
        Receipt::Accepted(_) => (SUCCESS, None),
        Receipt::Late => (NOBODY, Some("no command waits for that answer".to_owned())),
        Receipt::Refused(refusal) => (of_refusal(refusal), Some(refusal.to_string())),
        Receipt::Busy(busy) => {
            let reason = match busy {
                Busy::Full | Busy::Crowded | Busy::Fast => QUOTA_EXCEEDED,
                // It may have been stored: "unspecified" is the honest word.
                Busy::Away => UNSPECIFIED,
            };
            (reason, Some(busy.text().to_owned()))
        }
    }
}

const fn of_refusal(refusal: &Refusal) -> u8 {
    match refusal {
        Refusal::Revoked | Refusal::Forbidden(_) | Refusal::NoGateway | Refusal::OwnEvent(_) => {
            NOT_AUTHORIZED
        }
        Refusal::TooLarge(_) | Refusal::Key => IMPLEMENTATION_SPECIFIC,
        Refusal::MediaType | Refusal::Invalid { .. } => PAYLOAD_FORMAT_INVALID,
    }
}

/// What a CONNACK says of a login.
pub(super) const fn of_login(error: &LoginError) -> (u8, &'static str) {
    match error {
        LoginError::Wrong(_) => (BAD_USER_OR_PASSWORD, "device and secret do not match"),
        LoginError::Slowed(_) => (RATE_EXCEEDED, "too many attempts"),
        LoginError::Busy => (SERVER_BUSY, "credentials cannot be checked now"),
    }
}

/// The same in the six words that MQTT 3.1.1 has.
pub(super) const fn v3_return_code(reason: u8) -> ConnectAckReason {
    match reason {
        SUCCESS => ConnectAckReason::ConnectionAccepted,
        UNSUPPORTED_VERSION => ConnectAckReason::UnacceptableProtocolVersion,
        BAD_USER_OR_PASSWORD => ConnectAckReason::BadUserNameOrPassword,
        SERVER_BUSY | RATE_EXCEEDED | QUOTA_EXCEEDED => ConnectAckReason::ServiceUnavailable,
        _ => ConnectAckReason::NotAuthorized,
    }
}
