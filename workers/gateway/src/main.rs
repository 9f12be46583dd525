//! The process; all of it is in the library.
fn main() -> std::process::ExitCode {
    telltale_gateway::run()
}
