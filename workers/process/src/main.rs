//! The program.
fn main() -> std::process::ExitCode {
    telltale_runtime::run_ordered::<telltale_process::Process>()
}
