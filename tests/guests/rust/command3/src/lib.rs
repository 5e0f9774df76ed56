//! A command on WASI 0.3, whose `run` is asynchronous: `hello`, `echo`, `exit N`, `sleep S`, `args`, `env`, `trap`, `loop`.

use wasip3::cli::{environment, exit, stdin, stdout};
use wasip3::wit_stream;

wasip3::cli::command::export!(Command);

struct Command;

impl wasip3::exports::cli::run::Guest for Command {
    async fn run() -> Result<(), ()> {
        let args = environment::get_arguments();
        let args: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
        match args.as_slice() {
            [] | ["hello"] => print("hello from Rust, WASI 0.3\n").await,
            ["exit", code] => {
                exit::exit_with_code(code.parse().map_err(drop)?);
                Ok(())
            }
            ["args", rest @ ..] => {
                print(&rest.iter().map(|arg| format!("{arg}\n")).collect::<String>()).await
            }
            ["env"] => {
                let variables = environment::get_environment();
                print(&variables.iter().map(|(name, value)| format!("{name}={value}\n")).collect::<String>())
                    .await
            }
            ["cwd"] => print(&format!("{}\n", environment::get_initial_cwd().unwrap_or_default())).await,
            ["echo"] => echo().await,
            ["sleep", seconds] => {
                print("sleeping\n").await?;
                let seconds: f64 = seconds.parse().map_err(drop)?;
                wasip3::clocks::monotonic_clock::wait_for((seconds * 1e9) as u64).await;
                Ok(())
            }
            ["loop"] => {
                print("looping\n").await?;
                loop {
                    std::hint::black_box(());
                }
            }
            ["trap"] => reach_the_unreachable(),
            _ => Err(()),
        }
    }
}

async fn print(text: &str) -> Result<(), ()> {
    let (mut writer, reader) = wit_stream::new();
    let (written, rest) = futures::join!(stdout::write_via_stream(reader).into_future(), async {
        let rest = writer.write_all(text.as_bytes().to_vec()).await;
        drop(writer);
        rest
    });
    if written.is_ok() && rest.is_empty() { Ok(()) } else { Err(()) }
}

/// Standard input goes to standard output as one stream, which this program never touches.
async fn echo() -> Result<(), ()> {
    print("reading\n").await?;
    let (input, end) = stdin::read_via_stream();
    let (written, end) = futures::join!(stdout::write_via_stream(input).into_future(), end.into_future());
    if written.is_ok() && end.is_ok() { Ok(()) } else { Err(()) }
}

#[inline(never)]
fn reach_the_unreachable() -> ! {
    core::arch::wasm32::unreachable()
}
