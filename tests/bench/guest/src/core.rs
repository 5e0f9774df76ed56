//! What CoreMark is made of: a linked list, matrices, and a state machine, with a checksum over all.

use crate::numbers;

const TURNS: usize = 3000;
const LENGTH: usize = 2000;
const SIDE: usize = 40;

/// All three, again and again.
pub(crate) fn lists_matrices_and_states() -> u64 {
    let mut list = List::of(numbers(1).take(LENGTH).map(|number| number as u16));
    let (left, right) = (matrix(2), matrix(3));
    let text: Vec<u8> =
        numbers(4).take(LENGTH).map(|number| b"0123456789+-.eE, "[number as usize % 17]).collect();
    let mut checksum = 0;
    for turn in 0..TURNS {
        list.reverse();
        checksum = crc(checksum, list.find(turn as u16) as u16);
        checksum = crc(checksum, multiplied(&left, &right, turn as i32) as u16);
        checksum = crc(checksum, numbers_in(&text) as u16);
    }
    u64::from(checksum)
}

/// A list whose links are indices.
struct List {
    head: usize,
    nodes: Vec<(u16, usize)>,
}

const END: usize = usize::MAX;

impl List {
    fn of(values: impl Iterator<Item = u16>) -> Self {
        let nodes: Vec<_> = values.enumerate().map(|(index, value)| (value, index.wrapping_sub(1))).collect();
        Self { head: nodes.len() - 1, nodes }
    }

    fn reverse(&mut self) {
        let (mut at, mut before) = (self.head, END);
        while at != END {
            let next = std::mem::replace(&mut self.nodes[at].1, before);
            (before, at) = (at, next);
        }
        self.head = before;
    }

    /// How far it is to the first value with these low bits.
    fn find(&self, wanted: u16) -> usize {
        let (mut at, mut far) = (self.head, 0);
        while at != END && self.nodes[at].0 & 0xfff != wanted & 0xfff {
            (at, far) = (self.nodes[at].1, far + 1);
        }
        far
    }
}

type Matrix = [[i32; SIDE]; SIDE];

fn matrix(seed: u64) -> Matrix {
    let mut values = numbers(seed).map(|number| (number & 0xff) as i32);
    std::array::from_fn(|_| std::array::from_fn(|_| values.next().unwrap_or_default()))
}

/// The sum of the product's elements.
fn multiplied(left: &Matrix, right: &Matrix, add: i32) -> i32 {
    let mut sum = 0i32;
    for row in left {
        for column in 0..SIDE {
            let product =
                (0..SIDE).fold(add, |sum, at| sum.wrapping_add(row[at].wrapping_mul(right[at][column])));
            sum = sum.wrapping_add(product ^ (product >> 5));
        }
    }
    sum
}

enum State {
    Start,
    Integer,
    Fraction,
    Exponent,
    Wrong,
}

/// How many fields, separated by commas, are numbers.
fn numbers_in(text: &[u8]) -> usize {
    let (mut state, mut count) = (State::Start, 0);
    for byte in text {
        state = match (state, byte) {
            (State::Integer | State::Fraction | State::Exponent, b',') => {
                count += 1;
                State::Start
            }
            (_, b',') => State::Start,
            (State::Start, b'+' | b'-' | b'0'..=b'9') | (State::Integer, b'0'..=b'9') => State::Integer,
            (State::Integer, b'.') | (State::Fraction, b'0'..=b'9') => State::Fraction,
            (State::Integer | State::Fraction, b'e' | b'E') | (State::Exponent, b'0'..=b'9' | b'-') => {
                State::Exponent
            }
            _ => State::Wrong,
        };
    }
    count
}

fn crc(checksum: u16, value: u16) -> u16 {
    (0..16).fold(checksum ^ value, |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xa001 } else { crc >> 1 })
}
