//! The process `telltale-actuate`.
fn main() -> std::process::ExitCode {
    telltale_runtime::run::<telltale_actuate::Actuate>()
}
