//! Hands the linker script to the linker, and nothing else.

fn main() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../crates/platform");
    println!("cargo:rustc-link-arg-bins=-T{dir}/kexen.ld");
    println!("cargo:rustc-link-arg-bins=--no-pie");
    println!("cargo:rustc-link-arg-bins=-z");
    println!("cargo:rustc-link-arg-bins=max-page-size=0x1000");
    println!("cargo:rerun-if-changed={dir}/kexen.ld");
}
