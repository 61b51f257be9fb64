//! The program: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    immutag::cli::run()
}
