//! Standard input, output and error.

use std::io::{self, Read, Write};

/// Prints a line and goes on: whoever waits for the line knows that the guest is inside `then`.
pub(crate) fn say_then(line: &str, then: impl FnOnce()) -> io::Result<()> {
    println!("{line}");
    io::stdout().flush()?;
    then();
    Ok(())
}

/// Copies standard input to standard output, then says how many bytes it was.
pub(crate) fn echo() -> io::Result<()> {
    say_then("reading", || {})?;
    let (mut input, mut output, mut total) = (io::stdin().lock(), io::stdout().lock(), 0);
    let mut buffer = [0; 4096];
    loop {
        let read = input.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        output.write_all(&buffer[..read])?;
        output.flush()?;
        total += read;
    }
    writeln!(output, "read {total} bytes")
}

/// Writes numbered lines.
pub(crate) fn lines(count: u64) -> io::Result<()> {
    let mut output = io::BufWriter::new(io::stdout().lock());
    (1..=count).try_for_each(|number| writeln!(output, "line {number}"))?;
    output.flush()
}

/// Writes to standard output without end, until nobody reads and the pipe is full.
pub(crate) fn fill() -> io::Result<()> {
    eprintln!("filling");
    let block = [b'x'; 4096];
    loop {
        io::stdout().write_all(&block)?;
    }
}

/// One line on each of the two.
pub(crate) fn both() -> io::Result<()> {
    writeln!(io::stdout(), "to stdout")?;
    writeln!(io::stderr(), "to stderr")
}

/// A numbered line each so many milliseconds, without end.
pub(crate) fn tick(milliseconds: u64) -> io::Result<()> {
    for number in 1u64.. {
        println!("tick {number}");
        io::stdout().flush()?;
        std::thread::sleep(std::time::Duration::from_millis(milliseconds));
    }
    Ok(())
}
