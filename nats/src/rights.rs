//! What each identity may publish and subscribe to; all else is refused.
//!
//! Two things the server does not check, and what follows.
//!
//! - The reply subject of what is published. Whoever may publish to a stream may let its confirmation, and nothing
//!   else, appear on any subject: on a lane it is no document, and is quarantined; in a bucket it takes the place of
//!   an entry, and cannot be read. Whoever answers requests must answer to inboxes only. The full cure is an account
//!   for those who are not trusted that far.
//! - Where a push consumer delivers to. So the right to make one is given for no stream from which something would
//!   be obeyed.
use crate::{
    Lane, Manifest, Name,
    client::inbox_prefix,
    manifest::{ANY, RESERVED, STATE_BUCKET},
    pending, subject,
};

/// The name of the identity with all rights, the command line's.
pub const OPERATOR: &str = RESERVED[0];
/// The name of the identity for people: publishes raw messages, reads the other lanes.
pub const CLIENT: &str = RESERVED[1];
/// The name of the bridge's identity.
pub const BRIDGE: &str = RESERVED[2];
/// The name of the gateway's identity.
pub const GATEWAY: &str = RESERVED[3];
/// Who may ask a worker for something.
const ASKING: [&str; 3] = [OPERATOR, CLIENT, GATEWAY];
/// The event of a stage whose quarantine entry was refused for its subject's cap.
pub const QUARANTINE_OVERFLOW: &str = "quarantine_overflow";

/// The event of somebody whom the bridge refused.
pub const ACCESS_REFUSED: &str = "access_refused";
/// The event of what a person did over the gateway.
pub const AUDIT: &str = "audit";
/// Events that only we raise: devices may raise none of them.
pub const OWN_EVENTS: [&str; 3] = [QUARANTINE_OVERFLOW, ACCESS_REFUSED, AUDIT];

/// Subjects that an identity may use. Denied wins over allowed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Permissions {
    /// What it may publish.
    pub publish: Vec<String>,
    /// What it may not publish although the above says so.
    pub publish_not: Vec<String>,
    /// What it may subscribe to.
    pub subscribe: Vec<String>,
}

impl Permissions {
    /// An inbox of its own, as everyone has.
    fn of(user: &str) -> Self {
        Self {
            subscribe: vec![format!("{}.>", inbox_prefix(user))],
            ..Self::default()
        }
    }

    /// Fetch from a durable and acknowledge, in both forms that a server may use for that.
    fn bind(&mut self, stream: &str, durable: &str) {
        self.publish.extend([
            format!("$JS.API.CONSUMER.INFO.{stream}.{durable}"),
            format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}"),
            format!("$JS.ACK.{stream}.{durable}.>"),
            format!("$JS.ACK.*.*.{stream}.{durable}.>"),
        ]);
    }

    /// Get keys of a bucket and watch it.
    fn read_bucket(&mut self, bucket: &str) {
        let stream = format!("KV_{bucket}");
        self.publish.extend([
            format!("$JS.API.STREAM.INFO.{stream}"),
            format!("$JS.API.DIRECT.GET.{stream}.>"),
            // A watch is a consumer of the watcher's own, which clients let the server name. No durable is here
            // that could be named instead.
            format!("$JS.API.CONSUMER.CREATE.{stream}"),
            format!("$JS.API.CONSUMER.CREATE.{stream}.*"),
            format!("$JS.API.CONSUMER.CREATE.{stream}.*.>"),
            format!("$JS.API.CONSUMER.DELETE.{stream}.*"),
            format!("$JS.FC.{stream}.>"),
        ]);
    }

    /// The same, and change them.
    fn write_bucket(&mut self, bucket: &str) {
        self.read_bucket(bucket);
        self.publish.push(format!("$KV.{bucket}.>"));
    }

    /// Keep a state under the worker's own name, and begin again on its durables from where that state ends.
    fn keep_state(&mut self, manifest: &Manifest) {
        let (bucket, name) = (STATE_BUCKET, &manifest.name);
        self.publish.extend([
            format!("$JS.API.STREAM.INFO.KV_{bucket}"),
            format!("$JS.API.DIRECT.GET.KV_{bucket}.$KV.{bucket}.{name}.>"),
            format!("$KV.{bucket}.{name}.>"),
        ]);
        for durable in manifest.durables() {
            if durable.stream != subject::REDO_STREAM {
                let stream = durable.stream;
                self.publish
                    .push(format!("$JS.API.CONSUMER.RESET.{stream}.{}", durable.name));
            }
        }
    }

    /// Answer what is asked of a service, and be found by whoever looks for services.
    fn serve(&mut self, site: &Name, service: &str) {
        self.subscribe.push(subject::api_filter(site, service));
        for verb in ["PING", "INFO", "STATS"] {
            self.subscribe.extend([
                format!("$SRV.{verb}"),
                format!("$SRV.{verb}.{service}"),
                format!("$SRV.{verb}.{service}.*"),
            ]);
        }
        self.publish
            .extend(ASKING.map(|user| format!("{}.>", inbox_prefix(user))));
    }

    /// Ask how far a stream and its durables are.
    fn observe(&mut self, stream: &str) {
        self.publish.extend([
            format!("$JS.API.STREAM.INFO.{stream}"),
            format!("$JS.API.CONSUMER.INFO.{stream}.*"),
        ]);
    }

    /// Read a stream through consumers of its own, but not lay hands on a worker's durable.
    fn read_stream(&mut self, stream: &str, manifests: &[Manifest]) {
        self.publish.extend([
            format!("$JS.API.STREAM.INFO.{stream}"),
            format!("$JS.API.DIRECT.GET.{stream}"),
            format!("$JS.API.DIRECT.GET.{stream}.>"),
            format!("$JS.API.STREAM.MSG.GET.{stream}"),
            // Never without a name in the subject: the server would take one from the body, and change the
            // durable of that name.
            format!("$JS.API.CONSUMER.CREATE.{stream}.*"),
            format!("$JS.API.CONSUMER.CREATE.{stream}.*.>"),
            format!("$JS.API.CONSUMER.INFO.{stream}.*"),
            format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.*"),
            format!("$JS.API.CONSUMER.DELETE.{stream}.*"),
            format!("$JS.ACK.{stream}.>"),
            format!("$JS.ACK.*.*.{stream}.>"),
            format!("$JS.FC.{stream}.>"),
        ]);
        // The name of a consumer stands in the subject that creates one; creating an existing one changes it.
        for durable in manifests.iter().flat_map(Manifest::durables) {
            if durable.stream == stream {
                let name = &durable.name;
                self.publish_not.extend([
                    format!("$JS.API.CONSUMER.CREATE.{stream}.{name}"),
                    format!("$JS.API.CONSUMER.CREATE.{stream}.{name}.>"),
                    format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}"),
                    format!("$JS.API.CONSUMER.DELETE.{stream}.{name}"),
                    format!("$JS.ACK.{stream}.{name}.>"),
                    format!("$JS.ACK.*.*.{stream}.{name}.>"),
                ]);
            }
        }
    }
}

/// All subjects of a lane at a site, no deeper than they go.
fn lane(lane: Lane, site: &Name) -> String {
    let tokens = if lane.has_name() { "*.*" } else { "*" };
    format!("{lane}.{}.{tokens}", site.token())
}

/// Of a worker: exactly what its manifest says, at its site.
pub fn worker(manifest: &Manifest, site: &Name) -> Permissions {
    let mut rights = Permissions::of(&manifest.name);
    for durable in manifest.durables() {
        rights.bind(durable.stream, &durable.name);
    }
    for output in &manifest.outputs {
        match output {
            Lane::Event => rights.publish.extend(named(*output, site, &manifest.events)),
            Lane::Command => rights.publish.extend(named(*output, site, &manifest.commands)),
            other => rights.publish.push(lane(*other, site)),
        }
    }
    if manifest.events.iter().any(|name| name == ANY) {
        // These tell of a person or a refusal; no rule may say such a thing.
        rights.publish_not = named(Lane::Event, site, &[ACCESS_REFUSED.to_owned(), AUDIT.to_owned()]);
    }
    rights.publish.push(lane(Lane::Quarantine, site));
    rights
        .publish
        .extend(named(Lane::Event, site, &[QUARANTINE_OVERFLOW.to_owned()]));
    if let Ok(name) = Name::new(&manifest.name) {
        rights
            .publish
            .extend([subject::redo(&name), subject::again(&name)]);
    }
    for bucket in &manifest.buckets {
        rights.read_bucket(bucket);
    }
    for bucket in &manifest.keeps {
        rights.write_bucket(bucket);
    }
    if manifest.ordered {
        rights.keep_state(manifest);
    }
    for stream in &manifest.observes {
        rights.observe(stream);
    }
    if !manifest.api.is_empty() {
        rights
            .subscribe
            .push(format!("api.{}.{}.>", site.token(), manifest.name));
        rights
            .publish
            .extend(ASKING.map(|user| format!("{}.>", inbox_prefix(user))));
    }
    rights.publish.sort_unstable();
    rights.publish.dedup();
    rights
}

fn named(lane: Lane, site: &Name, names: &[String]) -> Vec<String> {
    if names.iter().any(|name| name == ANY) {
        return vec![self::lane(lane, site)];
    }
    let names = names.iter().filter_map(|name| Name::new(name).ok());
    names.map(|name| lane.filter_named(site, &name)).collect()
}

/// Of the bridge: raw messages and events of its site, which devices are there, and the credentials of devices; the
/// commands that wait for them, which bridge holds which device, and what became of commands.
pub fn bridge(site: &Name) -> Permissions {
    let mut rights = Permissions::of(BRIDGE);
    rights.publish = [Lane::Raw, Lane::Event, Lane::Outcome]
        .map(|one| lane(one, site))
        .into();
    let presence = ["online", "offline"].map(str::to_owned);
    rights.publish.extend(named(Lane::Thing, site, &presence));
    rights.read_bucket("credentials");
    rights.write_bucket(pending::BUCKET);
    rights.write_bucket("sessions");
    rights
}

/// Of the gateway: things, their commands and events, the credentials of devices, and who may ask. It answers requests,
/// reads what became of things and of commands, and takes commands back.
pub fn gateway(site: &Name, manifests: &[Manifest]) -> Permissions {
    let mut rights = Permissions::of(GATEWAY);
    rights
        .publish
        .extend([Lane::Thing, Lane::Event, Lane::Command].map(|one| lane(one, site)));
    rights.write_bucket("things");
    rights.write_bucket("credentials");
    rights.read_bucket("people");
    rights.read_bucket(pending::BUCKET);
    rights.read_stream("THINGS", manifests);
    rights.read_stream("EVENTS", manifests);
    rights.publish.push(subject::api(site, "actuate", "cancel"));
    // Who is silent for too long is found by what is heard.
    rights.subscribe.push(lane(Lane::Annotated, site));
    rights.serve(site, "things");
    rights
}

/// Of people: publish raw messages of the site, read every other lane, ask the site's services. The durables of
/// all workers are out of reach, so all manifests must be known. Work queues can be listened to, but not
/// consumed from.
pub fn client(site: &Name, manifests: &[Manifest]) -> Permissions {
    let mut rights = Permissions::of(CLIENT);
    rights.publish.push(lane(Lane::Raw, site));
    rights.publish.push(format!("api.{}.>", site.token()));
    // Who may give no command takes none back; the gateway asks who it is.
    rights.publish_not.push(subject::api_filter(site, "actuate"));
    // Who answers there is found by asking.
    rights.publish.push("$SRV.>".to_owned());
    rights.subscribe.extend(
        Lane::ALL
            .into_iter()
            .filter(|lane| *lane != Lane::Raw)
            .map(Lane::filter),
    );
    for stream in ["VALID", "READINGS", "EVENTS", "THINGS", "QUARANTINE"] {
        rights.read_stream(stream, manifests);
    }
    rights.publish.push("$JS.API.INFO".to_owned());
    rights
}

/// Of the command line: everything.
pub fn operator() -> Permissions {
    Permissions {
        publish: vec![">".to_owned()],
        publish_not: Vec::new(),
        subscribe: vec![">".to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(json: &str) -> Manifest {
        Manifest::parse(json.as_bytes()).unwrap()
    }

    fn site() -> Name {
        Name::new("a8-km42").unwrap()
    }

    #[test]
    fn a_worker_has_the_rights_of_its_manifest_and_no_others() {
        let over_limit = manifest(
            r#"{"name":"over-limit","inputs":["annotated"],"outputs":["event"],"events":["over_limit"]}"#,
        );
        let rights = worker(&over_limit, &site());
        assert_eq!(rights.subscribe, ["_INBOX_over-limit.>"]);
        assert_eq!(
            rights.publish,
            [
                "$JS.ACK.*.*.READINGS.over-limit.>",
                "$JS.ACK.*.*.REDO.over-limit.>",
                "$JS.ACK.*.*.REDO.over-limit_again.>",
                "$JS.ACK.READINGS.over-limit.>",
                "$JS.ACK.REDO.over-limit.>",
                "$JS.ACK.REDO.over-limit_again.>",
                "$JS.API.CONSUMER.INFO.READINGS.over-limit",
                "$JS.API.CONSUMER.INFO.REDO.over-limit",
                "$JS.API.CONSUMER.INFO.REDO.over-limit_again",
                "$JS.API.CONSUMER.MSG.NEXT.READINGS.over-limit",
                "$JS.API.CONSUMER.MSG.NEXT.REDO.over-limit",
                "$JS.API.CONSUMER.MSG.NEXT.REDO.over-limit_again",
                "event.a8-km42.*.over_limit",
                "event.a8-km42.*.quarantine_overflow",
                "quarantine.a8-km42.*.*",
                "redo.over-limit",
                "redo.over-limit.again",
            ]
        );
    }

    #[test]
    fn a_worker_that_answers_may_answer_to_inboxes_only() {
        let validate = manifest(
            r#"{"name":"validate","inputs":["raw"],"outputs":["valid"],"buckets":["things"],"api":["holds"]}"#,
        );
        let rights = worker(&validate, &site());
        assert_eq!(rights.subscribe, ["_INBOX_validate.>", "api.a8-km42.validate.>"]);
        assert!(rights.publish.contains(&"valid.a8-km42.*".to_owned()));
        assert!(rights.publish.contains(&"_INBOX_operator.>".to_owned()));
        assert!(
            !rights
                .publish
                .iter()
                .any(|subject| subject == "_INBOX_validate.>" || subject == "_INBOX.>")
        );
    }

    #[test]
    fn a_worker_in_order_keeps_its_own_state_and_may_rewind_its_own_durable() {
        let process = manifest(
            r#"{"name":"process","inputs":["annotated"],"outputs":["event"],"events":["*"],"ordered":true,"keeps":["rules"]}"#,
        );
        let rights = worker(&process, &site());
        for right in [
            "event.a8-km42.*.*",
            "$KV.state.process.>",
            "$KV.rules.>",
            "$JS.API.CONSUMER.RESET.READINGS.process",
            "$JS.API.DIRECT.GET.KV_state.$KV.state.process.>",
        ] {
            assert!(rights.publish.contains(&right.to_owned()), "{right}");
        }
        assert_eq!(
            rights.publish_not,
            ["event.a8-km42.*.access_refused", "event.a8-km42.*.audit"]
        );
        assert!(!rights.publish.contains(&"$KV.state.>".to_owned()));
    }

    #[test]
    fn a_worker_that_observes_may_ask_how_far_a_stream_is_and_nothing_else() {
        let without = manifest(r#"{"name":"store","inputs":["annotated"]}"#);
        let with = manifest(r#"{"name":"store","inputs":["annotated"],"observes":["RAW"]}"#);
        let (without, with) = (worker(&without, &site()), worker(&with, &site()));
        let more: Vec<_> = with
            .publish
            .iter()
            .filter(|subject| !without.publish.contains(subject))
            .collect();
        assert_eq!(more, ["$JS.API.CONSUMER.INFO.RAW.*", "$JS.API.STREAM.INFO.RAW"]);
        assert_eq!(with.subscribe, without.subscribe);
    }

    #[test]
    fn the_gateway_may_write_things_and_credentials_but_no_readings_and_no_tokens() {
        let store = manifest(r#"{"name":"store","inputs":["annotated","thing"]}"#);
        let rights = gateway(&site(), &[store]);
        let publish = |subject: &str| rights.publish.iter().any(|allowed| allowed == subject);
        for subject in [
            "thing.a8-km42.*.*",
            "event.a8-km42.*.*",
            "$KV.things.>",
            "$KV.credentials.>",
            "api.a8-km42.actuate.cancel",
            "$JS.API.DIRECT.GET.KV_pending.>",
        ] {
            assert!(publish(subject), "{subject}");
        }
        for subject in [
            "raw.a8-km42.*",
            "annotated.a8-km42.*",
            "outcome.a8-km42.*.*",
            "$KV.people.>",
            "$KV.pending.>",
            ">",
        ] {
            assert!(!publish(subject), "{subject}");
        }
        let taken = "$JS.API.CONSUMER.MSG.NEXT.THINGS.store".to_owned();
        assert!(rights.publish_not.contains(&taken));
        assert!(rights.subscribe.contains(&"api.a8-km42.things.*".to_owned()));
    }

    #[test]
    fn people_cannot_publish_but_raw_and_requests() {
        let store = manifest(r#"{"name":"store","inputs":["annotated"]}"#);
        let rights = client(&site(), &[store]);
        let ours = rights
            .publish
            .iter()
            .filter(|subject| !subject.starts_with("$JS"));
        assert_eq!(
            ours.collect::<Vec<_>>(),
            ["raw.a8-km42.*", "api.a8-km42.>", "$SRV.>"]
        );
        assert!(!rights.publish.iter().any(|subject| {
            ["RAW", "COMMANDS", "REDO"]
                .iter()
                .any(|queue| subject.contains(queue))
        }));
        assert!(
            rights
                .publish_not
                .contains(&"$JS.API.CONSUMER.CREATE.READINGS.store.>".to_owned())
        );
    }
}
