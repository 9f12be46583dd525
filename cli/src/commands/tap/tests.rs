//! What is listened to, and how it is written.
use super::*;

fn heard(filter: &str, thing: Option<&str>, name: Option<&str>) -> String {
    let site = Name::new("a8").unwrap();
    wanted(filter, &site, thing, name).map_or_else(|error| error.to_string(), |wanted| wanted.subject)
}

#[test]
fn a_lane_or_a_subject_becomes_what_is_listened_to() {
    for (filter, thing, name, subject) in [
        ("annotated", None, None, ["annotated", "a8", "*"].as_slice()),
        ("annotated", Some("urn:t"), None, &["annotated", "a8", "urn=3At"]),
        ("annotated.*.t", None, None, &["annotated", "*", "t"]),
        ("annotated.>", None, None, &["annotated", "*", "*"]),
        ("event", None, Some("hot"), &["event", "a8", "*", "hot"]),
        ("event.b.t.hot", None, None, &["event", "b", "t", "hot"]),
        ("event.>", None, None, &["event", "*", "*", "*"]),
        // Packs have no thing in their subject.
        ("valid.*.t", None, None, &["valid", "*", "*"]),
    ] {
        assert_eq!(heard(filter, thing, name), subject.join("."), "{filter}");
    }
    for filter in ["", "anotated", "annotated.a.b.c", "event.>.b", "annotated.>.>"] {
        assert!(heard(filter, None, None).contains('`'), "{filter}");
    }
}

fn observation() -> Passed {
    let document = json!({
        "specversion": "1.0", "id": "t:1", "type": "telltale.observation.v1", "source": "/s/annotate", "subject": "t",
        "time": "2026-01-15T07:41:09.25Z",
        "data": {"records": [
            {"n": "surface_temperature", "u": "Cel", "v": -0.85, "q": 1},
            {"n": "state", "vs": "wet\u{1b}[2J", "q": 2},
            {"n": "wind", "q": 9, "failed": ["missing"]},
        ], "annotation": {}},
    });
    Passed {
        subject: String::new(),
        thing: "t".into(),
        document,
    }
}

#[test]
fn a_message_is_a_line_for_people_and_a_pack_for_programs() {
    let passed = observation();
    let line = written(&passed, Form::Line).unwrap().unwrap();
    assert_eq!(
        line,
        "2026-01-15T07:41:09.25Z  t  surface_temperature=-0.85 Cel  state=wet\\u{1b}[2J  wind=- (quality 9)"
    );
    let pack: Value = serde_json::from_str(&written(&passed, Form::Senml).unwrap().unwrap()).unwrap();
    let records = senml::resolve(&pack, Timestamp::now()).unwrap();
    assert!(
        records
            .iter()
            .any(|record| record.n == "t/surface_temperature" && record.v == Some(-0.85)),
        "{pack}"
    );
    let event = json!({"subject": "t", "data": {"name": "hot"}});
    assert_eq!(super::pack(&event), None);
}

#[test]
fn a_condition_looks_at_what_a_message_carries() {
    let document = observation().document;
    for (text, holds) in [
        ("surface_temperature<0", true),
        ("surface_temperature <= -0.85", true),
        ("surface_temperature>0", false),
        ("state!=dry", true),
        ("wind=0", false),
        ("nothing!=1", false),
        ("id=t:1", true),
    ] {
        assert_eq!(
            text.parse::<Condition>().unwrap().holds(&document),
            holds,
            "{text}"
        );
    }
    for text in ["", "a", "<1", "a<", "a!1"] {
        assert!(text.parse::<Condition>().is_err(), "{text}");
    }
}
