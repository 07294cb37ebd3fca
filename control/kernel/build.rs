//! The migrations are compiled in; a new file among them is noticed by its folder alone.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
