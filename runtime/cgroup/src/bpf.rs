//! The few instructions and calls of `bpf(2)` that hold a group of version 2 to its device rules.
//!
//! A group is held by every program that is attached to it and to the groups above, so that a program more is never a right
//! more: systemd's own may be there beside this one. Attached programs go with their group.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

/// `enum bpf_cmd`, `bpf_prog_type`, `bpf_attach_type` and a flag (`linux/bpf.h`).
const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;

/// How often a load that signals interrupt is tried.
const TRIES: usize = 30;

/// A register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Register {
    /// The result.
    R0,
    /// At the start, where the access is described.
    R1,
    R2,
    R3,
    R4,
    R5,
}

/// `struct bpf_insn`; operation codes as in the kernel's `Documentation/bpf/standardization/instruction-set.rst`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Instruction {
    code: u8,
    /// The destination in the lower half, the source in the upper.
    registers: u8,
    offset: i16,
    immediate: i32,
}

impl Instruction {
    const fn new(code: u8, to: Register, from: Register, offset: i16, immediate: i32) -> Self {
        Self { code, registers: to as u8 | (from as u8) << 4, offset, immediate }
    }

    /// `to = *(u32 *)(from + offset)`
    pub(crate) const fn load(to: Register, from: Register, offset: i16) -> Self {
        Self::new(0x61, to, from, offset, 0)
    }

    /// `to &= number`
    pub(crate) const fn and(to: Register, number: i32) -> Self {
        Self::new(0x54, to, Register::R0, 0, number)
    }

    /// `to >>= bits`
    pub(crate) const fn shift_right(to: Register, bits: i32) -> Self {
        Self::new(0x74, to, Register::R0, 0, bits)
    }

    /// `to = from`
    pub(crate) const fn copy(to: Register, from: Register) -> Self {
        Self::new(0xbc, to, from, 0, 0)
    }

    /// `to = number`
    pub(crate) const fn set(to: Register, number: i32) -> Self {
        Self::new(0xb4, to, Register::R0, 0, number)
    }

    /// Goes on after `count` instructions unless `register` is `number`.
    pub(crate) fn skip_unless(register: Register, number: i32, count: usize) -> Self {
        // No rule has so many instructions that this would not hold.
        Self::new(0x55, register, Register::R0, i16::try_from(count).unwrap_or(i16::MAX), number)
    }

    /// Goes on after `count` instructions unless `register` is 0.
    pub(crate) fn skip_unless_zero(register: Register, count: usize) -> Self {
        Self::skip_unless(register, 0, count)
    }

    /// Goes on after `count` instructions if `register` is 0.
    pub(crate) fn skip_if_zero(register: Register, count: usize) -> Self {
        Self { code: 0x15, ..Self::skip_unless(register, 0, count) }
    }

    /// Ends with the result in the first register.
    pub(crate) const fn exit() -> Self {
        Self::new(0x95, Register::R0, Register::R0, 0, 0)
    }

    /// Code, destination, source, offset and number, for a test's interpreter.
    #[cfg(test)]
    pub(crate) fn parts(self) -> (u8, usize, usize, i16, i32) {
        let (to, from) = (self.registers & 0xf, self.registers >> 4);
        (self.code, to.into(), from.into(), self.offset, self.immediate)
    }
}

/// A program that decides about an access to a device: 1 allows it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Program(pub(crate) Vec<Instruction>);

/// What `BPF_PROG_LOAD` reads of `union bpf_attr`; the kernel takes what is beyond as zero.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// What `BPF_PROG_ATTACH` reads of `union bpf_attr`.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

impl Program {
    /// Attaches the program to the group whose folder is `group`.
    ///
    /// # Errors
    /// The kernel's: `EPERM` without its privileges, `EINVAL` where it was built without `CONFIG_CGROUP_BPF`.
    pub(crate) fn attach(&self, group: &Path) -> io::Result<()> {
        let (program, group) = (self.load()?, File::open(group)?);
        let attach = Attach {
            target: number(&group)?,
            program: number(&program)?,
            kind: CGROUP_DEVICE,
            flags: ALLOW_MULTI,
        };
        bpf(PROG_ATTACH, &attach).map(drop)
    }

    fn load(&self) -> io::Result<OwnedFd> {
        let load = Load {
            kind: PROG_TYPE_CGROUP_DEVICE,
            count: u32::try_from(self.0.len()).map_err(io::Error::other)?,
            instructions: self.0.as_ptr() as u64,
            license: c"Apache-2.0".as_ptr() as u64,
            log_level: 0,
            log_size: 0,
            log: 0,
            kernel_version: 0,
            flags: 0,
            name: *b"wisp_devices\0\0\0\0",
        };
        // Kernels before 5.11 count programs against the limit of locked memory. Nothing but this command is touched: the
        // container's process is there already.
        let limit = rustix::process::Rlimit { current: None, maximum: None };
        rustix::process::setrlimit(rustix::process::Resource::Memlock, limit).ok();
        for _ in 1..TRIES {
            match bpf(PROG_LOAD, &load) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // SAFETY: the kernel has just opened this descriptor for this process.
                done => return done.map(|program| unsafe { OwnedFd::from_raw_fd(program) }),
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }
}

fn number(file: &impl AsRawFd) -> io::Result<u32> {
    u32::try_from(file.as_raw_fd()).map_err(io::Error::other)
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<libc::c_int> {
    // SAFETY: `attributes` is a prefix of `union bpf_attr` of the size given, and what it points to outlives the call.
    let done =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(done as libc::c_int) }
}
