//! See the library.
fn main() -> std::process::ExitCode {
    telltale_runtime::run_batch::<telltale_store::Store>()
}
