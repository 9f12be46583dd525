//! What expressions say, refuse and cost.
use super::{super::values::cel, *};
use serde_json::json;

struct Fixed(Value);

impl Scope for Fixed {
    fn get(&self, name: &str) -> Option<Cel> {
        cel(self.0.get(name)?)
    }
    fn window(&self, window: &Window) -> Option<f64> {
        self.0.get(window.to_string()).and_then(Value::as_f64)
    }
}

fn evaluate(text: &str, names: &Value) -> Result<Value, Trouble> {
    Expression::compile(text)
        .unwrap_or_else(|wrong| panic!("{text}: {wrong}"))
        .json(&Fixed(names.clone()))
}

#[test]
fn an_expression_is_computed_over_names_and_windows() {
    let names = json!({
        "a": 1.5, "b": -2, "road.temp": 3, "text": "ice", "flag": true, "annotation": {"foi": "urn:x", "tags": ["x", "y"]},
        "avg(\"a\", \"5m\")": 7.5, "age(\"a\")": 12.0, "q": {"a": 3}
    });
    for (text, value) in [
        ("a > 1.0 && b < 0.0", json!(true)),
        ("a > 1 && b < 0", json!(true)),
        ("a * 2.0 + b", json!(1.0)),
        ("road.temp == 3.0", json!(true)),
        ("text == 'ice' ? 'cold' : 'warm'", json!("cold")),
        ("annotation.foi.startsWith('urn:')", json!(true)),
        ("annotation.tags.exists(t, t == 'y')", json!(true)),
        ("'z' in annotation.tags", json!(false)),
        ("avg(\"a\", \"5m\") - age('a')", json!(-4.5)),
        ("q['a'] == 3", json!(true)),
        ("math.abs(b) + math.greatest(a, 2.0)", json!(4.0)),
        ("!flag || text.size() == 3", json!(true)),
        ("[1, 2, int(a)]", json!([1, 2, 1])),
        ("annotation", json!({"foi": "urn:x", "tags": ["x", "y"]})),
    ] {
        assert_eq!(evaluate(text, &names), Ok(value), "{text}");
    }
}

#[test]
fn what_is_not_there_is_told_from_what_cannot_be_computed() {
    let names = json!({ "a": 1.0, "r": {}, "text": "x" });
    for (text, absent) in [
        ("b > 0.0", "b"),
        ("a > 0.0 && b > 0.0", "b"),
        ("r['c'] == 1", "c"),
        ("max('b', '10s') > 1.0", "max(\"b\", \"10s\")"),
    ] {
        assert_eq!(
            evaluate(text, &names),
            Err(Trouble::Absent(absent.to_owned())),
            "{text}"
        );
    }
    // One that decides needs no other.
    assert_eq!(evaluate("a > 0.0 || b > 0.0", &names), Ok(json!(true)));
    assert_eq!(evaluate("a < 0.0 && b > 0.0", &names), Ok(json!(false)));
    for text in ["text > 1.0", "a + text", "a / 0.0", "1 / 0"] {
        assert!(
            matches!(evaluate(text, &names), Err(Trouble::Failed(_))),
            "{text}"
        );
    }
    let holds = Expression::compile("a").unwrap().holds(&Fixed(names));
    assert!(matches!(holds, Err(Trouble::Failed(_))), "{holds:?}");
}

#[test]
fn a_wrong_text_is_refused_in_its_place() {
    for (text, line, column) in [
        ("a >", 1, 4),
        ("a &&\n  b > > c", 2, 7),
        ("a > 1.0 && foo(b)", 1, 12),
        ("é == 'x'", 1, 1),
        ("'é' == b && avg(\"a\")", 1, 13),
        ("'é' == b && ", 1, 13),
        ("a > 1.0 &&\n avg('a', '5x') > 1.0", 2, 2),
        ("a.matches('x')", 1, 3),
        ("annotation.x.map(y, y)", 1, 14),
        ("previous[a] > 1.0", 1, 9),
        ("{'a': 1}", 1, 1),
        ("", 1, 1),
    ] {
        let wrong = Expression::compile(text).expect_err(text);
        assert_eq!((wrong.line, wrong.column), (line, column), "{text}: {wrong}");
    }
}

#[test]
fn what_would_cost_too_much_is_refused() {
    let nested = "annotation.a.all(x, annotation.b.all(y, annotation.c.all(z, x == y)))";
    let deep = format!("{}a{}", "(".repeat(2_000), ")".repeat(2_000));
    let long = vec!["a"; 1_400].join("+");
    for text in [nested, &deep, &long, &"a".repeat(CEL_MAX + 1)] {
        let shown: String = text.chars().take(60).collect();
        assert!(Expression::compile(text).is_err(), "{shown}");
    }
}

#[test]
fn the_deepest_expression_is_computed_on_a_small_stack() {
    let mut text = "a".to_owned();
    while Expression::compile(&format!("-({text} + 1.0)")).is_ok() {
        text = format!("-({text} + 1.0)");
    }
    let expression = Expression::compile(&text).unwrap();
    let small = std::thread::Builder::new().stack_size(1 << 20);
    let value = small.spawn(move || expression.json(&Fixed(json!({ "a": 1.0 }))));
    assert!(value.unwrap().join().unwrap().is_ok());
}
