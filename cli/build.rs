//! A new migration beside the others is reason enough to build anew.
fn main() {
    println!("cargo::rerun-if-changed=../migrations");
}
