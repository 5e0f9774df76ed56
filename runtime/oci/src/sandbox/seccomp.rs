//! The spec's seccomp profile as BPF.
//!
//! `seccompiler` makes filters with one action for what matches and one for all else; a profile may have several actions.
//! The kernel takes the strictest answer of all filters, and of equal ones the last installed (`seccomp(2)`), so a
//! profile becomes one filter for what it lets pass, whose other answer is the profile's default, and one more for each
//! further action, whose other answer is to let pass.

use std::collections::BTreeMap;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use syscalls::Sysno;

/// Compiles a profile; the filters are to be installed in their order.
///
/// # Errors
/// For what this runtime does not carry out, by name.
pub fn compile(profile: &LinuxSeccomp) -> Result<Vec<BpfProgram>> {
    ensure!(
        profile.listener_path().is_none(),
        "seccomp.listenerPath is set, and this runtime does not carry it out"
    );
    let default = action(profile.default_action(), profile.default_errno_ret())?;
    let mut groups: Vec<(SeccompAction, Vec<&LinuxSyscall>)> = Vec::new();
    for rule in profile.syscalls().iter().flatten() {
        let action = action(rule.action(), rule.errno_ret())?;
        match groups.iter_mut().find(|(of, _)| *of == action) {
            Some((_, rules)) => rules.push(rule),
            None => groups.push((action, vec![rule])),
        }
    }
    let passing = |action: &SeccompAction| matches!(action, SeccompAction::Allow | SeccompAction::Log);
    let (passed, refused): (Vec<_>, Vec<_>) = groups.into_iter().partition(|(action, _)| passing(action));
    let mut filters = Vec::new();
    if !passing(&default) {
        // What a further filter answers more strictly or more exactly passes here.
        let open = passed.iter().chain(&refused).flat_map(|(_, rules)| rules.iter().copied());
        filters.push(filter(open, default, SeccompAction::Allow)?);
    }
    for (action, rules) in refused {
        filters.push(filter(rules.into_iter(), SeccompAction::Allow, action)?);
    }
    Ok(filters)
}

fn filter<'a>(
    rules: impl Iterator<Item = &'a LinuxSyscall>,
    other: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram> {
    // A call without conditions matches whatever other rules ask of its arguments.
    let mut calls: BTreeMap<i64, Option<Vec<SeccompRule>>> = BTreeMap::new();
    for rule in rules {
        let condition = condition(rule)?;
        // A name that this architecture does not have is for another; runc leaves it out too.
        for call in rule.names().iter().filter_map(|name| Sysno::from_str(name).ok()) {
            let entry = calls.entry(i64::from(call.id())).or_insert_with(|| Some(Vec::new()));
            match (&condition, entry.as_mut()) {
                (Some(condition), Some(conditions)) => conditions.push(condition.clone()),
                (None, _) => *entry = None,
                (Some(_), None) => {}
            }
        }
    }
    let rules = calls.into_iter().map(|(call, conditions)| (call, conditions.unwrap_or_default())).collect();
    let arch = std::env::consts::ARCH.try_into().context("seccomp on this architecture")?;
    // seccompiler refuses a filter that answers the same in both cases; it would do nothing.
    if other == matched {
        bail!("the seccomp profile's default action and a rule's are both {other:?}");
    }
    let filter = SeccompFilter::new(rules, other, matched, arch).context("the seccomp profile")?;
    filter.try_into().context("the seccomp profile")
}

fn condition(rule: &LinuxSyscall) -> Result<Option<SeccompRule>> {
    let conditions = rule
        .args()
        .iter()
        .flatten()
        .map(argument)
        .collect::<Result<Vec<_>>>()
        .context("seccomp arguments")?;
    if conditions.is_empty() {
        return Ok(None);
    }
    Ok(Some(SeccompRule::new(conditions)?))
}

fn argument(arg: &LinuxSeccompArg) -> Result<SeccompCondition> {
    let op = match arg.op() {
        LinuxSeccompOperator::ScmpCmpNe => SeccompCmpOp::Ne,
        LinuxSeccompOperator::ScmpCmpLt => SeccompCmpOp::Lt,
        LinuxSeccompOperator::ScmpCmpLe => SeccompCmpOp::Le,
        LinuxSeccompOperator::ScmpCmpEq => SeccompCmpOp::Eq,
        LinuxSeccompOperator::ScmpCmpGe => SeccompCmpOp::Ge,
        LinuxSeccompOperator::ScmpCmpGt => SeccompCmpOp::Gt,
        LinuxSeccompOperator::ScmpCmpMaskedEq => SeccompCmpOp::MaskedEq(arg.value()),
    };
    let value = match arg.op() {
        LinuxSeccompOperator::ScmpCmpMaskedEq => arg.value_two().unwrap_or(0),
        _ => arg.value(),
    };
    let index = u8::try_from(arg.index())?;
    Ok(SeccompCondition::new(index, SeccompCmpArgLen::Qword, op, value)?)
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<SeccompAction> {
    #[allow(clippy::cast_sign_loss, reason = "errno values are positive")]
    let errno = errno.unwrap_or(libc::EPERM as u32);
    Ok(match action {
        LinuxSeccompAction::ScmpActAllow => SeccompAction::Allow,
        LinuxSeccompAction::ScmpActLog => SeccompAction::Log,
        LinuxSeccompAction::ScmpActErrno => SeccompAction::Errno(errno),
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => SeccompAction::KillThread,
        LinuxSeccompAction::ScmpActKillProcess => SeccompAction::KillProcess,
        LinuxSeccompAction::ScmpActTrap => SeccompAction::Trap,
        LinuxSeccompAction::ScmpActTrace => SeccompAction::Trace(errno),
        LinuxSeccompAction::ScmpActNotify => bail!("the seccomp action SCMP_ACT_NOTIFY is not carried out"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(profile: &str) -> Result<Vec<BpfProgram>> {
        super::compile(&serde_json::from_str(profile).unwrap())
    }

    #[test]
    fn a_profile_becomes_a_filter_for_each_answer() {
        let filters = compile(
            r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
                {"names":["read","write","no_such_call"],"action":"SCMP_ACT_ALLOW"},
                {"names":["personality"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":8,"op":"SCMP_CMP_EQ"}]},
                {"names":["clone3"],"action":"SCMP_ACT_ERRNO","errnoRet":38}]}"#,
        )
        .unwrap();
        assert_eq!(filters.len(), 2);
    }

    #[test]
    fn a_profile_that_lets_everything_pass_needs_no_filter() {
        assert!(compile(r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#).unwrap().is_empty());
    }

    #[test]
    fn what_is_not_carried_out_is_refused() {
        assert!(compile(r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#).is_err());
    }

    #[test]
    fn the_answers_are_the_kernels() {
        let filters = compile(
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
                {"names":["getppid"],"action":"SCMP_ACT_ERRNO","errnoRet":38},
                {"names":["getpgrp"],"action":"SCMP_ACT_ERRNO"}]}"#,
        )
        .unwrap();
        std::thread::spawn(move || {
            for filter in &filters {
                seccompiler::apply_filter(filter).unwrap();
            }
            // SAFETY: calls without arguments.
            let answers = unsafe { (libc::syscall(libc::SYS_getppid), std::io::Error::last_os_error()) };
            assert_eq!((answers.0, answers.1.raw_os_error()), (-1, Some(libc::ENOSYS)));
            // SAFETY: as above.
            assert_eq!(unsafe { libc::syscall(libc::SYS_getpgrp) }, -1);
        })
        .join()
        .unwrap();
    }
}
