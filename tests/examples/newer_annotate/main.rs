//! The next version of `annotate`: the tests run it beside this one.
fn main() -> std::process::ExitCode {
    telltale_runtime::run::<telltale_tests::newer::Newer<telltale_annotate::Annotate>>()
}
