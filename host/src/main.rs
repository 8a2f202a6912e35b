//! The program `pomelo`.

use std::process::ExitCode;

fn main() -> ExitCode {
    pomelo_host::cli::main()
}
