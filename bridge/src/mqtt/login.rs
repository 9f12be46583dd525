//! The beginning of a connection: CONNECT within a few seconds, then CONNACK.
use super::{
    codec::{Codec, Hello, In, Out, Violation},
    reason,
    registry::{Place, Registry},
};
use crate::{intake::Intake, keyring::Ticket, metrics::Protocol};
use bytes::BytesMut;
use std::{net::IpAddr, num::NonZeroU16, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

/// How long a stranger may take to say CONNECT.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a packet may take to be written.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest client id.
const CLIENT_ID_MAX: usize = 256;
/// Longest keep-alive; what asks for none or more is told so where the version can, and held to it where not.
const KEEP_ALIVE_MAX_S: u16 = 3600;
/// CONNACK of MQTT 3.1.1, "unacceptable protocol version": the answer to a version that has no codec.
const UNKNOWN_VERSION: [u8; 4] = [0x20, 0x02, 0x00, 0x01];

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoginFailed {
    #[error("no CONNECT in time")]
    Silent,
    #[error("closed before CONNECT")]
    Gone,
    #[error(transparent)]
    Violation(#[from] Violation),
    #[error("refused with reason 0x{0:02x}")]
    Refused(u8),
    #[error("the connection failed")]
    Io(#[from] std::io::Error),
}

/// A device that was let in.
#[derive(Debug)]
pub(super) struct Login {
    pub(super) codec: Codec,
    pub(super) ticket: Ticket,
    pub(super) place: Place,
    /// The unconfirmed commands that the device takes.
    pub(super) receive_max: Option<NonZeroU16>,
    /// Closed when nothing was heard for so long: one and a half of what the client asked for.
    pub(super) patience: Duration,
}

/// Reads CONNECT, checks it, answers.
pub(super) async fn login<S>(
    stream: &mut S,
    buffer: &mut BytesMut,
    from: IpAddr,
    intake: &Intake,
    registry: &Registry,
) -> Result<Login, LoginFailed>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let hello = timeout(CONNECT_TIMEOUT, read_connect(stream, buffer))
        .await
        .map_err(|_| LoginFailed::Silent)?;
    let (mut codec, hello) = match hello {
        Err(LoginFailed::Violation(Violation(reason::UNSUPPORTED_VERSION))) => {
            write(stream, &mut BytesMut::from(UNKNOWN_VERSION.as_slice())).await?;
            return Err(LoginFailed::Refused(reason::UNSUPPORTED_VERSION));
        }
        other => other?,
    };
    let mut out = BytesMut::new();
    let admitted = admit(&hello, from, intake, registry).await;
    if admitted.is_ok() {
        codec.admit(hello.packet_max);
    }
    let keep_alive_s = match hello.keep_alive_s {
        0 => KEEP_ALIVE_MAX_S,
        asked => asked.min(KEEP_ALIVE_MAX_S),
    };
    let (reason, text, assigned_id) = match &admitted {
        Ok((_, _, assigned_id)) => (reason::SUCCESS, None, assigned_id.clone()),
        Err((reason, text)) => (*reason, Some(*text), None),
    };
    let keep_alive =
        (keep_alive_s != hello.keep_alive_s && reason == reason::SUCCESS).then_some(keep_alive_s);
    codec.encode(
        Out::ConnAck {
            reason,
            text,
            assigned_id,
            keep_alive_s: keep_alive,
        },
        &mut out,
    );
    write(stream, &mut out).await?;
    let (ticket, place, _) = admitted.map_err(|(reason, _)| LoginFailed::Refused(reason))?;
    let patience = Duration::from_millis(u64::from(keep_alive_s) * 1500);
    Ok(Login {
        codec,
        ticket,
        place,
        receive_max: hello.receive_max,
        patience,
    })
}

async fn read_connect<S>(stream: &mut S, buffer: &mut BytesMut) -> Result<(Codec, Box<Hello>), LoginFailed>
where
    S: AsyncRead + Unpin,
{
    let mut codec = loop {
        if let Some(codec) = Codec::detect(buffer)? {
            break codec;
        }
        fill(stream, buffer).await?;
    };
    loop {
        match codec.decode(buffer)? {
            Some(In::Connect(hello)) => return Ok((codec, hello)),
            Some(_) => return Err(Violation(reason::PROTOCOL_ERROR).into()),
            None => fill(stream, buffer).await?,
        }
    }
}

async fn fill<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut BytesMut) -> Result<(), LoginFailed> {
    if stream.read_buf(buffer).await? == 0 {
        return Err(LoginFailed::Gone);
    }
    Ok(())
}

type Admitted = (Ticket, Place, Option<String>);

async fn admit(
    hello: &Hello,
    from: IpAddr,
    intake: &Intake,
    registry: &Registry,
) -> Result<Admitted, (u8, &'static str)> {
    if let Some(problem) = hello.problem {
        intake.count_refused(Protocol::Mqtt, "connect");
        return Err(problem);
    }
    if hello.client_id.len() > CLIENT_ID_MAX {
        intake.count_refused(Protocol::Mqtt, "connect");
        return Err((reason::NOT_AUTHORIZED, "the client id is too long"));
    }
    let (device, secret) = (
        hello.user.as_deref().unwrap_or_default(),
        hello.password.as_deref().unwrap_or_default(),
    );
    let ticket = intake
        .login(Protocol::Mqtt, device, secret, from)
        .await
        .map_err(|error| reason::of_login(&error))?;
    let assigned = hello
        .client_id
        .is_empty()
        .then(|| ulid::Ulid::generate().to_string());
    let client_id = assigned.as_deref().unwrap_or(&hello.client_id);
    let place = registry
        .enter(device, client_id, ticket.credential().gateway)
        .ok_or_else(|| {
            intake.count_refused(Protocol::Mqtt, "sessions");
            (reason::QUOTA_EXCEEDED, "the device has too many sessions")
        })?;
    Ok((ticket, place, assigned))
}

/// Writes all of it, or gives up on a client that does not read.
pub(super) async fn write<S>(stream: &mut S, out: &mut BytesMut) -> std::io::Result<()>
where
    S: AsyncWrite + Unpin,
{
    timeout(WRITE_TIMEOUT, stream.write_all_buf(out))
        .await
        .map_err(std::io::Error::from)?
}
