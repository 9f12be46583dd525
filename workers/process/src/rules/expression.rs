//! CEL (the Common Expression Language, cel.dev), within bounds.
//!
//! The parser recurses deeply, so it runs on a thread of its own with much stack, and only what is shallow is kept: an
//! expression is evaluated on any thread. There are no regular expressions, and no `map` or `filter`: what is left
//! takes a number of steps that is known before the first one, and makes nothing larger than what it was given.
use super::{history::Window, values::json};
use cel::{
    Context, Env, ExecutionError, IdedExpr, Value as Cel,
    common::{
        ast::{CallExpr, Expr, LiteralValue, SourceInfo},
        value::CowVal,
    },
    context::VariableResolver,
    extensions,
};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock},
};
use telltale_schemas::{duration, rule::CEL_MAX};

/// What the parser may use: its frames are large.
const STACK: usize = 64 << 20;
/// Most expressions inside each other.
const DEPTH_MAX: usize = 64;
/// Most steps of one evaluation.
const STEPS_MAX: usize = 100_000;
/// Most items of a list or map that an expression is shown; a longer one is absent.
pub const ITEMS_MAX: usize = 1_000;
/// Longest window, in microseconds: a week.
pub const SPAN_MAX: i64 = 7 * 86_400 * 1_000_000;
/// Functions beside the windows, the operators and `math.…`.
const FUNCTIONS: [&str; 9] = [
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "string",
    "int",
    "uint",
    "double",
    "bool",
];
/// What `math.` has.
const MATH: [&str; 10] = [
    "abs", "ceil", "floor", "isFinite", "isInf", "isNaN", "round", "sign", "sqrt", "trunc",
];

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    env.add_extension(extensions::math)
        .expect("nothing else is named as the functions of `math`");
    Arc::new(env)
});

/// A condition or value that can be computed.
#[derive(Debug, Clone)]
pub struct Expression {
    root: Arc<IdedExpr>,
    windows: Vec<Window>,
    names: BTreeSet<String>,
    previous: BTreeSet<String>,
}

/// Why a text is no expression, and where in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} (line {line}, column {column} of the expression)")]
pub struct Wrong {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

/// Why there is no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// It asks for something that is not there.
    #[error("`{0}` is not there")]
    Absent(String),
    /// It cannot be computed.
    #[error("{0}")]
    Failed(String),
}

/// What names stand for.
pub trait Scope: Send + Sync {
    /// The value of a name, if it has one.
    fn get(&self, name: &str) -> Option<Cel>;
    /// The value of a window.
    fn window(&self, window: &Window) -> Option<f64>;
}

struct Resolver<'a> {
    scope: &'a dyn Scope,
    windows: &'a [Window],
}

impl VariableResolver for Resolver<'_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        let value = match name.strip_prefix('@') {
            Some(number) => {
                let number: usize = number.parse().ok()?;
                Cel::Float(self.scope.window(self.windows.get(number)?)?)
            }
            None => self.scope.get(name)?,
        };
        value.try_into().ok().map(CowVal::Owned)
    }
}

impl Expression {
    /// Compiles a text. What is wrong is told with its place.
    pub fn compile(text: &str) -> Result<Self, Wrong> {
        if text.len() > CEL_MAX {
            let message = format!("{} bytes are more than {CEL_MAX}", text.len());
            return Err(Wrong::at_start(message));
        }
        let owned = text.to_owned();
        let thread = std::thread::Builder::new()
            .name("cel".to_owned())
            .stack_size(STACK)
            .spawn(move || parse(&owned));
        let compiled = thread.map(std::thread::JoinHandle::join);
        match compiled {
            Ok(Ok(compiled)) => compiled,
            Ok(Err(_)) => Err(Wrong::at_start("it cannot be read".to_owned())),
            Err(error) => Err(Wrong::at_start(format!("no thread to read it on: {error}"))),
        }
    }

    /// Its value.
    pub fn value(&self, scope: &dyn Scope) -> Result<Cel, Trouble> {
        let resolver = Resolver {
            scope,
            windows: &self.windows,
        };
        let mut context = Context::with_env(Arc::clone(&ENV));
        context.set_variable_resolver(&resolver);
        Cel::resolve(&self.root, &context).map_err(|error| match error {
            ExecutionError::UndeclaredReference(name) | ExecutionError::NoSuchKey(name) => {
                Trouble::Absent(self.plain(&name))
            }
            other => Trouble::Failed(cut(&other.to_string())),
        })
    }

    /// Whether it is true.
    pub fn holds(&self, scope: &dyn Scope) -> Result<bool, Trouble> {
        match self.value(scope)? {
            Cel::Bool(holds) => Ok(holds),
            other => Err(Trouble::Failed(cut(&format!(
                "{other:?} is neither true nor false"
            )))),
        }
    }

    /// Its value as JSON.
    pub fn json(&self, scope: &dyn Scope) -> Result<Value, Trouble> {
        json(&self.value(scope)?)
    }

    /// The windows that it looks at.
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// The names that it mentions; of `a.b` both `a` and `a.b`.
    pub fn names(&self) -> &BTreeSet<String> {
        &self.names
    }

    /// The records whose previous value it asks for.
    pub fn previous(&self) -> &BTreeSet<String> {
        &self.previous
    }

    /// What people wrote where we have a number.
    fn plain(&self, name: &str) -> String {
        let number = name.strip_prefix('@').and_then(|number| number.parse().ok());
        let window = number.and_then(|number: usize| self.windows.get(number));
        window.map_or_else(|| name.to_owned(), ToString::to_string)
    }
}

impl Wrong {
    fn at_start(message: String) -> Self {
        Self {
            line: 1,
            column: 1,
            message,
        }
    }
}

fn parse(text: &str) -> Result<Expression, Wrong> {
    let program = ENV.compile(text).map_err(|errors| {
        let first = errors.errors.first();
        let (line, column) = first.map_or((1, 1), |error| error.pos);
        Wrong {
            line: usize::try_from(line).unwrap_or(1).max(1),
            column: usize::try_from(column).unwrap_or(1).max(1),
            message: first.map_or_else(|| "it cannot be read".to_owned(), |error| cut(&error.msg)),
        }
    })?;
    let mut walk = Walk {
        text,
        places: program.source_info(),
        bound: Vec::new(),
        windows: Vec::new(),
        names: BTreeSet::new(),
        previous: BTreeSet::new(),
    };
    let mut root = program.expression().clone();
    let steps = walk.expression(&mut root, 1)?;
    if steps > STEPS_MAX {
        let message = format!("it may take {steps} steps, and {STEPS_MAX} are the most");
        return Err(Wrong::at_start(message));
    }
    Ok(Expression {
        root: Arc::new(root),
        windows: walk.windows,
        names: walk.names,
        previous: walk.previous,
    })
}

/// Looks at every part of an expression, puts names in place of windows, and counts steps.
struct Walk<'a> {
    text: &'a str,
    places: &'a SourceInfo,
    /// The variables of the macros around.
    bound: Vec<String>,
    windows: Vec<Window>,
    names: BTreeSet<String>,
    previous: BTreeSet<String>,
}

impl Walk<'_> {
    /// Returns how many steps it takes at most.
    fn expression(&mut self, expr: &mut IdedExpr, depth: usize) -> Result<usize, Wrong> {
        if depth > DEPTH_MAX {
            return Err(self.wrong(expr.id, format!("more than {DEPTH_MAX} parts inside each other")));
        }
        if let Some(window) = self.window(expr)? {
            let number = self.windows.iter().position(|known| *known == window);
            let number = number.unwrap_or_else(|| {
                self.windows.push(window);
                self.windows.len() - 1
            });
            expr.expr = Expr::Ident(format!("@{number}"));
            // As dear as a long comparison: it looks at every value in it.
            return Ok(100);
        }
        self.mention(expr)?;
        let below = depth + 1;
        let steps = match &mut expr.expr {
            Expr::Unspecified | Expr::Literal(_) | Expr::Ident(_) => 0,
            Expr::Call(call) => {
                let mut steps = 0;
                if let Some(target) = &mut call.target {
                    steps += self.expression(target, below)?;
                }
                for argument in &mut call.args {
                    steps += self.expression(argument, below)?;
                }
                steps
            }
            Expr::Select(select) => self.expression(&mut select.operand, below)?,
            Expr::List(list) => {
                let mut steps = 0;
                for element in &mut list.elements {
                    steps += self.expression(element, below)?;
                }
                steps
            }
            Expr::Comprehension(macro_) => {
                if matches!(macro_.accu_init.expr, Expr::List(_) | Expr::Map(_)) {
                    let message = "`map` and `filter` are not here; `exists`, `all` and `exists_one` are";
                    return Err(self.wrong(expr.id, message.to_owned()));
                }
                let items = match &macro_.iter_range.expr {
                    Expr::List(list) => list.elements.len(),
                    _ => ITEMS_MAX,
                };
                let range = self.expression(&mut macro_.iter_range, below)?;
                let before = self.bound.len();
                self.bound.push(macro_.accu_var.clone());
                self.bound.push(macro_.iter_var.clone());
                self.bound.extend(macro_.iter_var2.clone());
                let mut each = self.expression(&mut macro_.accu_init, below)?;
                each += self.expression(&mut macro_.loop_cond, below)?;
                each += self.expression(&mut macro_.loop_step, below)?;
                each += self.expression(&mut macro_.result, below)?;
                self.bound.truncate(before);
                each.saturating_mul(items).saturating_add(range)
            }
            Expr::Map(_) | Expr::Struct(_) => {
                return Err(self.wrong(expr.id, "no maps are made here".to_owned()));
            }
        };
        Ok(steps.saturating_add(1))
    }

    /// The window that a call asks for.
    fn window(&self, expr: &IdedExpr) -> Result<Option<Window>, Wrong> {
        let Expr::Call(call) = &expr.expr else {
            return Ok(None);
        };
        let texts: Vec<Option<&str>> = call.args.iter().map(literal).collect();
        if call.func_name == "age" {
            return match texts.as_slice() {
                [Some(of)] if call.target.is_none() => Ok(Some(Window::age(of))),
                _ => Err(self.wrong(expr.id, "write `age(\"name\")`".to_owned())),
            };
        }
        let Some(function) = Window::function(&call.func_name) else {
            return Ok(None);
        };
        let [Some(of), Some(span)] = texts.as_slice() else {
            let name = &call.func_name;
            return Err(self.wrong(
                expr.id,
                format!("write `{name}(\"name\", \"5m\")`, both in quotes"),
            ));
        };
        let micros = duration::parse(span).and_then(|span| i64::try_from(span.as_micros()).ok());
        let within = micros.filter(|micros| (1..=SPAN_MAX).contains(micros));
        let micros = within.ok_or_else(|| {
            let message = format!("`{}` is no duration of at most 7d", cut(span));
            self.wrong(expr.id, message)
        })?;
        Ok(Some(Window::new(function, of, span, micros)))
    }

    /// Notes the names in it; refuses functions that are not here.
    fn mention(&mut self, expr: &IdedExpr) -> Result<(), Wrong> {
        match &expr.expr {
            Expr::Call(call) => {
                if let Some((map, key)) = indexed(call) {
                    match (map, key) {
                        ("previous", Some(key)) => drop(self.previous.insert(key.to_owned())),
                        ("previous", None) => {
                            let message = "write the name in quotes: `previous[\"name\"]`".to_owned();
                            return Err(self.wrong(expr.id, message));
                        }
                        ("r" | "q" | "unit", Some(key)) => drop(self.names.insert(key.to_owned())),
                        _ => {}
                    }
                }
                self.function(expr.id, call)
            }
            Expr::Ident(name) => {
                if !self.bound.contains(name) {
                    self.names.insert(name.clone());
                }
                Ok(())
            }
            Expr::Select(select) => {
                if let Some(path) = path(expr) {
                    self.names.insert(path);
                }
                if let Expr::Ident(map) = &select.operand.expr {
                    match map.as_str() {
                        "previous" => drop(self.previous.insert(select.field.clone())),
                        "r" | "q" | "unit" => drop(self.names.insert(select.field.clone())),
                        _ => {}
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn function(&self, id: u64, call: &CallExpr) -> Result<(), Wrong> {
        let name = call.func_name.as_str();
        let target = call.target.as_ref().map(|target| &target.expr);
        let of_math = matches!(target, Some(Expr::Ident(space)) if space == "math") && MATH.contains(&name);
        // As the parser names operators and what macros become: `_+_`, `@in`, `math.@max`.
        let is_operator = name.contains('@') || name.contains('_') && !name.contains(char::is_alphabetic);
        if of_math || is_operator || FUNCTIONS.contains(&name) {
            return Ok(());
        }
        Err(self.wrong(id, format!("there is no function `{}`", cut(name))))
    }

    fn wrong(&self, id: u64, message: String) -> Wrong {
        let offset = self.places.offset_for(id).map_or(0, |(start, _)| start as usize);
        let before = self.text.get(..offset).unwrap_or_default();
        // A call's place is its bracket; people look for its name.
        let before = match self.text.get(offset..) {
            Some(rest) if rest.starts_with('(') => {
                before.trim_end_matches(|c: char| c.is_alphanumeric() || c == '_')
            }
            _ => before,
        };
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Wrong {
            line: before.matches('\n').count() + 1,
            column,
            message,
        }
    }
}

fn literal(expr: &IdedExpr) -> Option<&str> {
    match &expr.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}

/// `map["key"]`, and `map[…]`.
fn indexed(call: &CallExpr) -> Option<(&str, Option<&str>)> {
    let [map, key] = call.args.as_slice() else {
        return None;
    };
    match &map.expr {
        Expr::Ident(map) if call.func_name.starts_with("_[") => Some((map, literal(key))),
        _ => None,
    }
}

/// `a.b.c`
fn path(expr: &IdedExpr) -> Option<String> {
    match &expr.expr {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select(select) => Some(format!("{}.{}", path(&select.operand)?, select.field)),
        _ => None,
    }
}

/// Short enough for a log, and on one line.
pub(super) fn cut(text: &str) -> String {
    let line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(200)
        .collect();
    line.trim().to_owned()
}

#[cfg(test)]
mod tests;
