//! Device rules: which device nodes the processes of a group may make, read and write.
//!
//! A later rule wins over an earlier one for the accesses that it names; a rule for every device (`a`) makes those before it
//! void. runc's own list (`AllowedDevices` in its `specconv`) comes after the spec's: what every container's `/dev` has.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use crate::bpf::{Instruction, Program, Register};

/// Bits of an access, as the kernel's device programs have them (`BPF_DEVCG_ACC_*`).
const MAKE: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 4;

/// What every container may do, by major and minor number: make nodes, and use those of an ordinary `/dev`.
const ALWAYS: [(Kind, Option<u32>, Option<u32>, u8); 11] = [
    (Kind::Char, None, None, MAKE),
    (Kind::Block, None, None, MAKE),
    (Kind::Char, Some(1), Some(3), MAKE | READ | WRITE), // null
    (Kind::Char, Some(1), Some(8), MAKE | READ | WRITE), // random
    (Kind::Char, Some(1), Some(7), MAKE | READ | WRITE), // full
    (Kind::Char, Some(5), Some(0), MAKE | READ | WRITE), // tty
    (Kind::Char, Some(1), Some(5), MAKE | READ | WRITE), // zero
    (Kind::Char, Some(1), Some(9), MAKE | READ | WRITE), // urandom
    (Kind::Char, Some(136), None, MAKE | READ | WRITE),  // pts/*
    (Kind::Char, Some(5), Some(2), MAKE | READ | WRITE), // ptmx
    (Kind::Char, Some(10), Some(200), MAKE | READ | WRITE), // net/tun
];

/// A kind of device, by the kernel's number (`BPF_DEVCG_DEV_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Block = 1,
    Char = 2,
}

/// One rule; what is `None` matches every number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule {
    kind: Kind,
    major: Option<u32>,
    minor: Option<u32>,
    access: u8,
    allow: bool,
}

/// The rules of a group.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// What holds where no rule does.
    allow: bool,
    /// Later ones win.
    rules: Vec<Rule>,
}

impl Rules {
    /// The rules of a spec, and runc's after them.
    ///
    /// # Errors
    /// One sentence, for a rule that makes no sense.
    pub(crate) fn of(asked: &[LinuxDeviceCgroup]) -> Result<Self, String> {
        let mut rules = Self { allow: false, rules: Vec::new() };
        for rule in asked {
            rules.add(rule).map_err(|why| format!("the device rule {rule} {why}"))?;
        }
        let always = ALWAYS.into_iter().map(|(kind, major, minor, access)| Rule {
            kind,
            major,
            minor,
            access,
            allow: true,
        });
        for rule in always {
            // containerd's own list names most of them. What no later rule denied is still allowed.
            if !rules.rules.iter().rev().take_while(|last| last.allow).any(|last| *last == rule) {
                rules.rules.push(rule);
            }
        }
        Ok(rules)
    }

    fn add(&mut self, rule: &LinuxDeviceCgroup) -> Result<(), &'static str> {
        let access = access(rule.access().as_deref().unwrap_or_default())?;
        let kind = match rule.typ().unwrap_or_default() {
            LinuxDeviceType::A => {
                *self = Self { allow: rule.allow(), rules: Vec::new() };
                return Ok(());
            }
            LinuxDeviceType::B => Kind::Block,
            LinuxDeviceType::C => Kind::Char,
            _ => return Err("is for no type of device; expected a, b or c"),
        };
        let (major, minor) = (number(rule.major())?, number(rule.minor())?);
        self.rules.push(Rule { kind, major, minor, access, allow: rule.allow() });
        Ok(())
    }

    /// The rules as lines for the files of version 1: first for all devices, then one by one.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (&'static str, String)> {
        let file = |allow| if allow { "devices.allow" } else { "devices.deny" };
        let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
        let rules = self.rules.iter().map(move |rule| {
            let kind = if rule.kind == Kind::Char { 'c' } else { 'b' };
            let access: String = [('r', READ), ('w', WRITE), ('m', MAKE)]
                .into_iter()
                .filter(|(_, bit)| rule.access & bit != 0)
                .map(|(letter, _)| letter)
                .collect();
            (file(rule.allow), format!("{kind} {}:{} {access}", number(rule.major), number(rule.minor)))
        });
        std::iter::once((file(self.allow), "a".to_owned())).chain(rules)
    }

    /// The rules as a program of the kernel's, which is run at each access.
    ///
    /// It goes through the rules from the last to the first. A rule that allows takes its accesses from those that are still
    /// in question, and the program allows when none is left; a rule that denies one of them ends it.
    pub(crate) fn program(&self) -> Program {
        use Register::{R0, R1, R2, R3, R4, R5};
        // `struct bpf_cgroup_dev_ctx`: the access in the upper half of the first word, the kind in the lower; the numbers.
        let mut program = vec![
            Instruction::load(R2, R1, 0),
            Instruction::load(R3, R1, 0),
            Instruction::load(R4, R1, 4),
            Instruction::load(R5, R1, 8),
            Instruction::and(R2, 0xffff),
            Instruction::shift_right(R3, 16),
        ];
        for rule in self.rules.iter().rev() {
            let verdict = if rule.allow {
                vec![
                    Instruction::and(R3, !i32::from(rule.access)),
                    Instruction::skip_unless_zero(R3, 2),
                    Instruction::set(R0, 1),
                    Instruction::exit(),
                ]
            } else {
                vec![
                    Instruction::copy(R1, R3),
                    Instruction::and(R1, i32::from(rule.access)),
                    Instruction::skip_if_zero(R1, 2),
                    Instruction::set(R0, 0),
                    Instruction::exit(),
                ]
            };
            let wanted = [(R2, Some(rule.kind as u32)), (R4, rule.major), (R5, rule.minor)]
                .into_iter()
                .filter_map(|(register, number)| {
                    number.and_then(|number| Some((register, i32::try_from(number).ok()?)))
                });
            let wanted: Vec<_> = wanted.collect();
            for (done, (register, number)) in wanted.iter().enumerate() {
                let rest = wanted.len() - done - 1 + verdict.len();
                program.push(Instruction::skip_unless(*register, *number, rest));
            }
            program.extend(verdict);
        }
        program.extend([Instruction::set(R0, i32::from(self.allow)), Instruction::exit()]);
        Program(program)
    }
}

fn access(text: &str) -> Result<u8, &'static str> {
    let bits = text.chars().try_fold(0, |bits, letter| match letter {
        'r' => Some(bits | READ),
        'w' => Some(bits | WRITE),
        'm' => Some(bits | MAKE),
        _ => None,
    });
    bits.filter(|bits| *bits != 0).ok_or("is for no access; expected letters of rwm")
}

/// A number of a rule; absent and -1 are every number. The kernel's have at most 20 bits.
fn number(number: Option<i64>) -> Result<Option<u32>, &'static str> {
    match number {
        None | Some(-1) => Ok(None),
        Some(number) => match u32::try_from(number) {
            Ok(number) if number <= i32::MAX as u32 => Ok(Some(number)),
            _ => Err("has a number that no device has"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the program allows an access, by an interpreter of the instructions that it is made of.
    fn allows(program: &Program, kind: Kind, major: u32, minor: u32, access: u8) -> bool {
        let context = [u32::from(access) << 16 | kind as u32, major, minor];
        let mut registers = [0_u32; 6];
        let mut at = 0;
        loop {
            let (code, to, from, offset, number) = program.0[at].parts();
            at += 1;
            match code {
                0x61 => registers[to] = context[offset as usize / 4],
                0x54 => registers[to] &= number as u32,
                0x74 => registers[to] >>= number,
                0xb4 => registers[to] = number as u32,
                0xbc => registers[to] = registers[from],
                0x55 if registers[to] != number as u32 => at += offset as usize,
                0x15 if registers[to] == number as u32 => at += offset as usize,
                0x55 | 0x15 => {}
                0x95 => return registers[0] == 1,
                code => panic!("instruction {code:#x}"),
            }
        }
    }

    fn program(rules: &str) -> Program {
        let rules: Vec<LinuxDeviceCgroup> = serde_json::from_str(rules).unwrap();
        Rules::of(&rules).unwrap().program()
    }

    #[test]
    fn what_no_rule_allows_is_denied_and_an_ordinary_dev_works() {
        let program = program("[]");
        assert!(!allows(&program, Kind::Char, 1, 1, READ), "/dev/mem");
        assert!(!allows(&program, Kind::Block, 1, 3, READ), "a disk with the numbers of /dev/null");
        assert!(allows(&program, Kind::Char, 1, 3, READ | WRITE), "/dev/null");
        assert!(allows(&program, Kind::Char, 136, 7, READ | WRITE), "a terminal");
        assert!(allows(&program, Kind::Block, 8, 0, MAKE), "making a node opens nothing");
        assert!(!allows(&program, Kind::Block, 8, 0, MAKE | READ));
    }

    #[test]
    fn a_later_rule_wins_for_the_accesses_that_it_names() {
        let program = program(
            r#"[{"allow":false,"access":"rwm"},
                {"allow":true,"type":"c","major":10,"access":"rw"},
                {"allow":false,"type":"c","major":10,"minor":229,"access":"w"}]"#,
        );
        assert!(allows(&program, Kind::Char, 10, 1, READ | WRITE));
        assert!(allows(&program, Kind::Char, 10, 229, READ));
        assert!(!allows(&program, Kind::Char, 10, 229, READ | WRITE));
    }

    #[test]
    fn accesses_may_be_allowed_by_one_rule_each() {
        let program = program(
            r#"[{"allow":true,"type":"b","major":8,"minor":1,"access":"r"},
                {"allow":true,"type":"b","major":8,"minor":1,"access":"w"}]"#,
        );
        assert!(allows(&program, Kind::Block, 8, 1, READ | WRITE));
        assert!(!allows(&program, Kind::Block, 8, 2, READ));
    }

    #[test]
    fn a_rule_for_every_device_makes_those_before_it_void() {
        let program = program(
            r#"[{"allow":false,"type":"c","major":1,"minor":1,"access":"rwm"},{"allow":true,"type":"a","access":"rwm"},
                {"allow":false,"type":"c","major":1,"minor":2,"access":"rw"}]"#,
        );
        assert!(allows(&program, Kind::Char, 1, 1, READ | WRITE));
        assert!(!allows(&program, Kind::Char, 1, 2, READ));
        assert!(allows(&program, Kind::Char, 1, 2, MAKE));
    }

    #[test]
    fn version_1_is_told_in_lines() {
        let rules: Vec<LinuxDeviceCgroup> = serde_json::from_str(
            r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"b","major":8,"access":"mr"}]"#,
        )
        .unwrap();
        let lines: Vec<_> = Rules::of(&rules).unwrap().lines().take(3).collect();
        assert_eq!(lines[0], ("devices.deny", "a".into()));
        assert_eq!(lines[1], ("devices.allow", "b 8:* rm".into()));
        assert_eq!(lines[2], ("devices.allow", "c *:* m".into()));
    }

    #[test]
    fn what_is_allowed_already_is_not_said_again() {
        let rules =
            |text: &str| Rules::of(&serde_json::from_str::<Vec<_>>(text).unwrap()).unwrap().rules.len();
        let null = r#"{"allow":true,"type":"c","major":1,"minor":3,"access":"rwm"}"#;
        assert_eq!(rules(&format!("[{null}]")), ALWAYS.len());
        let denied = r#"{"allow":false,"type":"c","major":1,"access":"w"}"#;
        assert_eq!(rules(&format!("[{null},{denied}]")), ALWAYS.len() + 2);
    }

    #[test]
    fn a_rule_that_makes_no_sense_is_refused_with_a_sentence() {
        for (rule, why) in [
            (r#"{"allow":true,"type":"c","access":"rx"}"#, "is for no access"),
            (r#"{"allow":true,"type":"c"}"#, "is for no access"),
            (r#"{"allow":true,"type":"p","access":"r"}"#, "is for no type of device"),
            (r#"{"allow":true,"type":"c","major":-7,"access":"r"}"#, "has a number that no device has"),
        ] {
            let rule: LinuxDeviceCgroup = serde_json::from_str(rule).unwrap();
            let error = Rules::of(&[rule]).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
