//! The metastash command: `cli` has the terminal, the library has everything else.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
