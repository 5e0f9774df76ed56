//! Text: JSON is read and written, and searched with regular expressions.

use regex::Regex;
use serde_json::{Value, json};

use crate::numbers;

const RECORDS: usize = 4000;
const TURNS: usize = 5;

/// A document is written and read again.
pub(crate) fn json() -> u64 {
    let mut document = document();
    let mut length = 0;
    for _ in 0..TURNS {
        let text = document.to_string();
        length += text.len() as u64;
        document = serde_json::from_str(&text).expect("what was written is read");
    }
    length
}

/// Addresses, times and words are found in a text.
pub(crate) fn regex() -> u64 {
    let text = document().to_string();
    let patterns = [
        r"[a-z]+\d+@[a-z]+\.example",
        r#""at":"(\d{4})-(\d\d)-(\d\d)""#,
        r"(?i)\b(alpha|beta|gamma)\w*\b",
        r"[^,]*x[0-9a-f]{8}",
    ];
    let mut found = 0;
    for pattern in patterns {
        let pattern = Regex::new(pattern).expect("a pattern that is one");
        for _ in 0..TURNS {
            found += pattern
                .captures_iter(&text)
                .filter_map(|one| one.get(0))
                .map(|one| one.len() as u64)
                .sum::<u64>();
        }
    }
    found
}

fn document() -> Value {
    let record = |number: u64| {
        json!({
            "id": number,
            "name": format!("user{}@mail.example", number % 1000),
            "at": format!("20{:02}-{:02}-{:02}", number % 40, number % 12 + 1, number % 28 + 1),
            "tags": ["alpha", "beta-blocker", "Gamma\"ray\""],
            "share": (number % 1_000_000) as f64 / 7.0,
            "token": format!("x{:016x}", number),
            "active": number % 3 == 0,
        })
    };
    Value::Array(numbers(7).take(RECORDS).map(record).collect())
}
