//! What would mend a refusal, by its reason.

/// In one line, for whoever has the entry before them.
pub(super) fn of(stage: &str, reason: &str) -> &'static str {
    match (stage, reason) {
        ("validate", "type") => {
            "correct the policy of the thing with `telltale thing put FILE`, or the value with `telltale quarantine edit ID --set /pointer=value`"
        }
        ("validate", "unit") => {
            "tell the unit in the policy (`telltale thing put FILE`), or correct it with `telltale quarantine edit ID --set /pointer=unit`"
        }
        ("validate", "time") => {
            "widen `late` or `ahead` in the policy (`telltale thing put FILE`), or correct the time with `telltale quarantine edit ID`"
        }
        (
            "validate",
            "number" | "name" | "shape" | "records" | "senml" | "cloudevent" | "version" | "id" | "subject",
        ) => "correct what is marked with `telltale quarantine edit ID`, and the device that sends it",
        ("validate", "json" | "utf8" | "duplicate_key" | "depth" | "cbor") => {
            "mend the text with `telltale quarantine edit ID`; if it was cut off, only the device has the rest: `telltale quarantine drop ID`"
        }
        ("validate", "content_type") => {
            "say what it is with `telltale quarantine edit ID --content-type TYPE`, and let the device say it"
        }
        (_, "size") => {
            "let the device send it in parts; this one can be shortened with `telltale quarantine edit ID`"
        }
        (_, "panic" | "timeout" | "attempts") => {
            "see why in `telltale logs STAGE`; once its cause is gone, it may pass as it is"
        }
        (_, "database") => "see what the database refused; once that is mended, it may pass as it is",
        (_, "undecodable") => {
            "find who wrote it: it is no message of its lane. An older worker may not know a newer envelope: update it"
        }
        (_, "subject") => {
            "nobody can place it: correct who publishes there, and `telltale quarantine drop ID`"
        }
        _ => "see what its stage says of that reason; mend it there, or with `telltale quarantine edit ID`",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_of_ours_has_a_remedy_of_its_own_and_any_other_has_one_too() {
        let general = of("over-limit", "no_temperature");
        for reason in [
            "json",
            "duplicate_key",
            "depth",
            "number",
            "utf8",
            "size",
            "records",
            "shape",
            "name",
            "senml",
            "version",
            "cbor",
            "cloudevent",
            "content_type",
            "subject",
            "id",
            "type",
            "unit",
            "time",
        ] {
            assert_ne!(of("validate", reason), general, "{reason}");
        }
        for reason in ["undecodable", "attempts", "panic", "timeout", "database"] {
            assert_ne!(of("store", reason), general, "{reason}");
        }
    }
}
