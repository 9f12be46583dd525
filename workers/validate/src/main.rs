fn main() -> std::process::ExitCode {
    telltale_runtime::run::<telltale_validate::Validate>()
}
