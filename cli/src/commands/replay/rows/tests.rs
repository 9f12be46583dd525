//! Files as they come.
use super::*;
use serde_json::json;
use std::path::PathBuf;

const AIR: &str = include_str!("../../../../mappings/air-quality.toml");

/// A file that is gone when the test is.
struct Written(PathBuf);

impl Written {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("telltale-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

#[test]
fn the_uci_air_quality_set_is_121_641_records_of_which_16_701_mean_no_value() {
    let data =
        std::env::var_os("TELLTALE_DATA").map_or_else(|| PathBuf::from("../../shared/data"), PathBuf::from);
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(data)
        .join("air-quality/AirQualityUCI.csv");
    if !path.exists() {
        eprintln!("SKIPPED: no `{}`", path.display());
        return;
    }
    let mapping = Mapping::parse(AIR).unwrap();
    for property in mapping.properties.values() {
        if let Some(unit) = &property.unit {
            assert!(telltale_schemas::units::to_primary(unit, 1.0).is_some(), "{unit}");
        }
    }
    let mut rows = Rows::open(&path, &mapping).unwrap();
    let all: Vec<Row> = rows.by_ref().collect::<Result<_, _>>().unwrap();
    assert_eq!(all.len(), 9_357);
    assert_eq!(all.iter().map(|row| row.values.len()).sum::<usize>(), 121_641);
    assert_eq!(all.iter().map(|row| row.missing).sum::<usize>(), 16_701);
    assert_eq!(rows.unmapped().count(), 0);
    assert_eq!(all.iter().map(Row::id).collect::<BTreeSet<_>>().len(), 9_357);
    let (first, last) = (&all[0], &all[9_356]);
    assert_eq!(
        (first.line, first.time.to_string().as_str()),
        (2, "2004-03-10T17:00:00Z")
    );
    assert_eq!(
        (last.line, last.time.to_string().as_str()),
        (9_358, "2005-04-04T13:00:00Z")
    );
    assert_eq!(first.values["co"], json!(2.6));
    assert_eq!(last.values["absolute_humidity"], json!(0.5028));
    assert!(
        telltale_schemas::check::thing_entry(&serde_json::to_value(mapping.entry(&first.thing)).unwrap())
            .is_empty()
    );
}

#[test]
fn semicolons_decimal_commas_and_empty_columns_are_read() {
    let file = Written::new(
        "comma.csv",
        "\u{feff}Date;Time;CO;T;Extra;;\n10/03/2004;18.00.00;2,6;-200;x;;\n1/4/2004;9.05.00;;13,25;;;\n;;;;;;\n",
    );
    let mapping = Mapping::parse(
        "delimiter=';'\ndecimal=','\n[thing]\nname='t'\n[time]\ncolumns=['Date','Time']\nformat='%d/%m/%Y %H.%M.%S'\n\
         [policy]\nmissing=[-200]\n[properties.CO]\nname='co'\n[properties.T]\nname='temperature'\n",
    )
    .unwrap();
    let mut rows = Rows::open(&file.0, &mapping).unwrap();
    let all: Vec<Row> = rows.by_ref().collect::<Result<_, _>>().unwrap();
    assert_eq!(
        all[0].body(),
        json!({"time":"2004-03-10T18:00:00Z","co":2.6,"temperature":-200})
    );
    assert_eq!(
        all[1].body(),
        json!({"time":"2004-04-01T09:05:00Z","temperature":13.25})
    );
    assert_eq!((all[0].missing, all[1].missing, rows.blank), (1, 0, 1));
    assert_eq!(rows.unmapped().collect::<Vec<_>>(), ["Extra"]);
}

#[test]
fn a_row_keeps_its_key_and_another_file_has_others() {
    let mapping =
        Mapping::parse("[thing]\nname='t'\n[time]\ncolumns=['at']\nformat='epoch'\n[properties.v]\n")
            .unwrap();
    let keys = |file: &Written| -> Vec<String> {
        Rows::open(&file.0, &mapping)
            .unwrap()
            .map(|row| row.unwrap().key)
            .collect()
    };
    let (a, b) = (
        Written::new("a.csv", "at,v\n1,2\n1,2\n"),
        Written::new("b.csv", "at,v\n1,2\n1,3\n"),
    );
    assert_eq!(keys(&a), keys(&a));
    assert_ne!(keys(&a)[0], keys(&a)[1]);
    assert_ne!(keys(&a)[0], keys(&b)[0]);
    assert!(keys(&a).iter().all(|key| id::is_key(key)));
    assert_ne!(
        digest(&["ab".into(), "c".into()]),
        digest(&["a".into(), "bc".into()])
    );
}

#[test]
fn ndjson_is_read_by_name_or_pointer() {
    let file = Written::new(
        "rows.ndjson",
        "{\"station\":\"s 1\",\"at\":1078938000,\"data\":{\"t\":1.5},\"ok\":true,\"note\":\"n\",\"more\":1}\n\n[1]\n{\"station\":\"s2\",\"at\":\"soon\",\"ok\":false}\n{\"station\":\"s2\"",
    );
    let mapping = Mapping::parse(
        "[thing]\ncolumn='station'\n[time]\ncolumns=['at']\nformat='epoch'\n[key]\ncolumns=['station','at']\n\
         [properties.'/data/t']\nname='temperature'\n[properties.ok]\ntype='boolean'\n[properties.note]\ntype='string'\n",
    )
    .unwrap();
    let mut rows = Rows::open(&file.0, &mapping).unwrap();
    let all: Vec<_> = rows.by_ref().collect();
    let first = all[0].as_ref().unwrap();
    assert_eq!(first.thing, "s 1");
    assert_eq!(
        first.body(),
        json!({"time":"2004-03-10T17:00:00Z","temperature":1.5,"ok":true,"note":"n"})
    );
    let faults: Vec<String> = all[1..]
        .iter()
        .map(|row| format!("{:#}", anyhow::Error::msg(row.as_ref().unwrap_err().to_string())))
        .collect();
    assert_eq!(faults[0], "line 3: not a JSON object");
    assert_eq!(faults[1], "line 4");
    assert!(faults[2].starts_with("line 5: not JSON"), "{}", faults[2]);
    assert_eq!(rows.unmapped().collect::<Vec<_>>(), ["more"]);
}

#[test]
fn a_text_that_means_no_value_becomes_null_and_another_is_an_error() {
    let file = Written::new("na.csv", "at,v\n1,NA\n2,n/a\n");
    let mapping = Mapping::parse(
        "[thing]\nname='t'\n[time]\ncolumns=['at']\nformat='epoch'\n[properties.v]\nmissing=['NA']\n",
    )
    .unwrap();
    let all: Vec<_> = Rows::open(&file.0, &mapping).unwrap().collect();
    let first = all[0].as_ref().unwrap();
    assert_eq!((first.values["v"].clone(), first.missing), (Value::Null, 1));
    assert_eq!(
        all[1].as_ref().unwrap_err().to_string(),
        "line 3: `n/a` in column `v` is no number"
    );
}

#[test]
fn a_column_that_the_file_lacks_is_named() {
    let file = Written::new("lacks.csv", "at,v\n1,2\n");
    let mapping = Mapping::parse("[thing]\nname='t'\n[time]\ncolumns=['at']\n[properties.w]\n").unwrap();
    assert_eq!(
        Rows::open(&file.0, &mapping).unwrap_err().to_string(),
        "no column `w` in the file"
    );
}
