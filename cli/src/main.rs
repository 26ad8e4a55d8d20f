//! Kexen's host tool: builds the boot image, shows it at work on a real Xen,
//! tests and measures it.

mod cmd;
mod host;
mod lab;
mod ui;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

/// Kexen hands a Xen guest from one kernel to the next.
///
/// Start with `demo`: it boots a real Xen in QEMU (no hardware support and
/// nothing to set up needed) and hands guests over to Debian's Linux.
#[derive(Debug, Parser)]
#[command(name = "kexen", version)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Hand guests over to Linux on a real Xen, and show how it went
    Demo(cmd::demo::DemoArgs),
    /// Build the boot image: what a toolstack starts as a guest's kernel
    Image(cmd::image::ImageArgs),
    /// Pack a kernel, initrd and command line into a boot module
    Bundle(cmd::bundle::BundleArgs),
    /// Make a Debian package of the boot image and this tool
    Package(cmd::package::PackageArgs),
    /// Say what a kernel image is and in which guests it can start
    Inspect(cmd::inspect::InspectArgs),
    /// Run everything that tests the project
    Test(cmd::test::TestArgs),
    /// Run the parsers with inputs that a fuzzer makes up
    Fuzz(cmd::fuzz::FuzzArgs),
    /// Measure the hand-off from inside the guest, and compare it
    Bench(cmd::bench::BenchArgs),
    /// Read images of file systems, and compare with what Linux reads there
    Readers(cmd::readers::ReadersArgs),
    /// Read boot menus, and compare with what GRUB itself makes of them
    Menus(cmd::menus::MenusArgs),
    /// Start the lab with a shell in dom0
    Lab(cmd::lab::LabArgs),
}

impl Command {
    /// Whether it is made of, or with, the project's sources.
    const fn needs_sources(&self) -> bool {
        !matches!(self, Self::Bundle(_) | Self::Inspect(_))
    }
}

fn main() -> ExitCode {
    let name = if host::workspace::by_cargo() {
        "cargo kexen"
    } else {
        "kexen"
    };
    let matches = Options::command().bin_name(name).get_matches();
    let command = match Options::from_arg_matches(&matches) {
        Ok(options) => options.command,
        Err(error) => error.exit(),
    };
    let sources = if command.needs_sources() {
        host::workspace::require()
    } else {
        Ok(())
    };
    match sources.and_then(|()| run(command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Demo(args) => cmd::demo::run(&args),
        Command::Image(args) => cmd::image::run(&args),
        Command::Bundle(args) => cmd::bundle::run(&args),
        Command::Package(args) => cmd::package::run(&args),
        Command::Inspect(args) => cmd::inspect::run(&args),
        Command::Test(args) => cmd::test::run(&args),
        Command::Fuzz(args) => cmd::fuzz::run(&args),
        Command::Bench(args) => cmd::bench::run(&args),
        Command::Readers(args) => cmd::readers::run(&args),
        Command::Menus(args) => cmd::menus::run(&args),
        Command::Lab(args) => cmd::lab::run(&args),
    }
}
