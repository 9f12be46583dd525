//! The command `telltale`; all of it is in the library.
fn main() -> std::process::ExitCode {
    telltale_cli::tree::main()
}
