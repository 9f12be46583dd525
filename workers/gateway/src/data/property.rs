//! `GET /things/{id}/properties/{name}`: the last value.
use super::{
    affordance,
    page::{Item as _, Visit},
    readings::{Reading, columns, unreadable},
    thing,
};
use crate::{
    app::App,
    auth::{Caller, Scope},
    sql::pour::Param,
};
use axum::{Json, extract::State};
use serde::Serialize;
use serde_json::{Value, json};
use telltale_runtime::web::{Path, Problem};
use telltale_schemas::Timestamp;
use utoipa::ToSchema;

const LATEST: &str = concat!(
    "select ",
    columns!(),
    " from latest where thing = $1 and name = $2"
);

/// The last value of a property.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Last {
    /// The thing.
    thing: String,
    /// The property.
    name: String,
    /// A number, a text, a boolean; bytes as base64url without padding; `null` where the device said that it had none.
    #[schema(value_type = Value)]
    value: Value,
    /// When it was measured (RFC 3339, UTC).
    #[schema(value_type = String, format = DateTime)]
    time: Timestamp,
    /// A primary unit of SenML.
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
    /// QARTOD flag: 1 passed, 2 not evaluated, 3 suspect, 4 failed, 9 no value.
    #[serde(skip_serializing_if = "Option::is_none")]
    quality: Option<i16>,
    /// The quality tests that failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failed: Vec<String>,
    /// Id of its message.
    message_id: String,
}

impl From<Reading> for Last {
    fn from(reading: Reading) -> Self {
        let text = reading.value_text.filter(|_| reading.quality != Some(9));
        let value = if let Some(number) = reading.value {
            json!(number)
        } else if let Some(text) = text.or(reading.value_data) {
            json!(text)
        } else {
            json!(reading.value_bool)
        };
        Self {
            thing: reading.thing,
            name: reading.name,
            value,
            time: reading.time,
            unit: reading.unit,
            quality: reading.quality,
            failed: reading.failed,
            message_id: reading.message_id,
        }
    }
}

/// The last value of a property, with its time, unit and quality.
#[utoipa::path(
    get,
    path = "/things/{id}/properties/{name}",
    operation_id = "readProperty",
    tag = "data",
    params(
        ("id" = String, Path, description = "The thing."),
        ("name" = String, Path, description = "The property."),
    ),
    responses(
        (status = 200, description = "The row with the greatest time.", body = Last),
        (status = 400, description = "What stands there cannot be a name."),
        (status = 404, description = "It has no value yet, or there is no such thing or property."),
        (status = 503, description = "Too many questions at once, or the database is away."),
        (status = 504, description = "It took too long."),
    )
)]
pub(super) async fn read(
    caller: Caller,
    State(app): State<App>,
    Path((id, name)): Path<(String, String)>,
) -> Result<Json<Last>, Problem> {
    caller.may(Scope::DataRead)?;
    let (thing, name) = (thing(&id)?, affordance(&name)?);
    let params: [Param; 2] = [
        Box::new(thing.plain().to_owned()),
        Box::new(name.plain().to_owned()),
    ];
    let visit = Visit::begin(app.sql()).await?;
    let (visit, row) = visit.first(LATEST, &params).await?;
    visit.end().await;
    let Some(row) = row else {
        return Err(Problem::not_found(format!(
            "thing `{thing}` has no value of a property `{name}`"
        )));
    };
    Ok(Json(Reading::of(&row).map_err(unreadable)?.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_what_the_device_sent_and_nothing_where_it_had_none() {
        let reading = |quality| Reading {
            time: "2026-01-15T07:41:09Z".parse().unwrap(),
            thing: "t".to_owned(),
            name: "n".to_owned(),
            value: None,
            value_text: Some("-200".to_owned()),
            value_bool: None,
            value_data: None,
            sum: None,
            unit: None,
            quality: Some(quality),
            failed: vec![],
            kind: "observation".to_owned(),
            message_id: "t:1".to_owned(),
            ordinal: 0,
        };
        assert_eq!(Last::from(reading(1)).value, json!("-200"));
        assert_eq!(Last::from(reading(9)).value, Value::Null);
    }
}
