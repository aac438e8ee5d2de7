//! Makes cargo embed the migrations anew when a file comes, goes or changes.

fn main() {
    println!("cargo:rerun-if-changed=sql");
}
