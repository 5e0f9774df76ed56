//! A filter of system calls by their numbers alone, as a tree.
//!
//! When a filter is installed the kernel runs it once for every number that there is, to know which answers it need not ask for again.
//! Comparing with one number after the other, as `seccompiler` does, costs a quarter of a millisecond of each start for that.

use anyhow::{Context, Result};
use libc::{
    BPF_ABS, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, c_long,
};
use seccompiler::{BpfProgram, sock_filter};

/// Lets the calls of `allowed` pass, and refuses all others with EPERM.
///
/// The architecture, which numbers depend on, is for another filter to check.
///
/// # Errors
/// If there are more numbers than a jump can skip; a few hundred are not.
pub(super) fn filter(allowed: impl Iterator<Item = c_long>) -> Result<BpfProgram> {
    let mut numbers: Vec<u32> = allowed.map(u32::try_from).collect::<Result<_, _>>()?;
    numbers.sort_unstable();
    numbers.dedup();
    // `struct seccomp_data` begins with the number.
    let mut program = vec![instruction(BPF_LD | BPF_W | BPF_ABS, 0, 0)];
    program.extend(tree(&bounds(&numbers), false)?);
    Ok(program)
}

/// Where the answer changes, going up from 0: first to yes, then to no, and so on.
fn bounds(numbers: &[u32]) -> Vec<u32> {
    let runs = numbers.chunk_by(|one, next| one + 1 == *next);
    runs.flat_map(|run| [run[0], run[0] + run.len() as u32]).collect()
}

/// Looks where the number is among `bounds`; `allowed` is the answer below the first.
fn tree(bounds: &[u32], allowed: bool) -> Result<BpfProgram> {
    let middle = bounds.len() / 2;
    let Some(bound) = bounds.get(middle) else {
        let answer = if allowed { SECCOMP_RET_ALLOW } else { SECCOMP_RET_ERRNO | libc::EPERM as u32 };
        return Ok(vec![instruction(BPF_RET | BPF_K, 0, answer)]);
    };
    let below = tree(&bounds[..middle], allowed)?;
    // Each bound turns the answer over.
    let above = tree(&bounds[middle + 1..], allowed ^ middle.is_multiple_of(2))?;
    let skipped = u8::try_from(below.len()).context("too many system calls for a jump")?;
    let mut program = vec![instruction(BPF_JMP | BPF_JGE | BPF_K, skipped, *bound)];
    program.extend(below);
    program.extend(above);
    Ok(program)
}

fn instruction(code: u32, jump_if_true: u8, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: jump_if_true, jf: 0, k }
}

#[cfg(test)]
mod tests {
    use libc::{BPF_JA, BPF_JEQ, SECCOMP_RET_KILL_PROCESS};
    use seccompiler::{SeccompAction, SeccompFilter};

    use super::*;
    use crate::seccomp::{ALLOWED, OLDER, filters};

    /// This architecture and another one, as the kernel names them (`AUDIT_ARCH_…` in `linux/audit.h`).
    const ARCHITECTURES: (u32, u32) =
        if cfg!(target_arch = "x86_64") { (0xc000_003e, 0x4000_0003) } else { (0xc000_00b7, 0x4000_0028) };
    /// The bit of the calls of x32, which have the architecture of the others.
    const X32: u32 = 0x4000_0000;

    /// What the kernel would make of a program that looks at no argument before it has an answer.
    fn answer(program: &[sock_filter], (number, architecture): (u32, u32)) -> u32 {
        let (mut at, mut loaded) = (0, 0);
        loop {
            let instruction = &program[at];
            let jump = |is_so| usize::from(if is_so { instruction.jt } else { instruction.jf });
            at += 1;
            match u32::from(instruction.code) {
                code if code == BPF_LD | BPF_W | BPF_ABS => {
                    loaded = [number, architecture][instruction.k as usize / 4];
                }
                code if code == BPF_JMP | BPF_JA => at += instruction.k as usize,
                code if code == BPF_JMP | BPF_JEQ | BPF_K => at += jump(loaded == instruction.k),
                code if code == BPF_JMP | BPF_JGE | BPF_K => at += jump(loaded >= instruction.k),
                code if code == BPF_RET | BPF_K => return instruction.k,
                code => panic!("{code:#x} is no instruction of these programs"),
            }
        }
    }

    fn in_a_row(list: &[c_long]) -> BpfProgram {
        let (rules, refused) = (list.iter().map(|call| (*call, vec![])), libc::EPERM as u32);
        let arch = std::env::consts::ARCH.try_into().unwrap();
        SeccompFilter::new(rules.collect(), SeccompAction::Errno(refused), SeccompAction::Allow, arch)
            .and_then(BpfProgram::try_from)
            .unwrap()
    }

    #[test]
    fn a_tree_answers_as_comparisons_in_a_row_do() {
        let own = [ALLOWED, OLDER].concat();
        for list in [&own[..], &[], &[0], &[0, 1, 2, 450], &[5, 7, 9, 11]] {
            let (tree, row) = (filter(list.iter().copied()).unwrap(), in_a_row(list));
            for number in (0..1000).chain(X32..X32 + 1000).chain([X32 - 1, u32::MAX]) {
                let call = (number, ARCHITECTURES.0);
                assert_eq!(answer(&tree, call), answer(&row, call), "{number} of {list:?}");
            }
        }
    }

    #[test]
    fn calls_of_another_architecture_end_the_process() {
        let [_, by_arguments] = filters().unwrap();
        for number in (0..1000).chain(X32..X32 + 1000) {
            assert_eq!(answer(&by_arguments, (number, ARCHITECTURES.1)), SECCOMP_RET_KILL_PROCESS);
        }
    }

    #[test]
    fn more_numbers_than_a_jump_can_skip_are_refused() {
        assert!(filter((0..).step_by(2).take(1000)).is_err());
    }
}
