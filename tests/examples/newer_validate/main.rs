//! The next version of `validate`: the tests run it beside this one.
fn main() -> std::process::ExitCode {
    telltale_runtime::run::<telltale_tests::newer::Newer<telltale_validate::Validate>>()
}
