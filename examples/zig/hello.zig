// A command: it reads its arguments, says hello, and ends.
const std = @import("std");

pub fn main(init: std.process.Init) !void {
    const args = try init.minimal.args.toSlice(init.arena.allocator());
    const name = if (args.len > 1) args[1] else "world";
    var buffer: [256]u8 = undefined;
    var stdout = std.Io.File.stdout().writer(init.io, &buffer);
    try stdout.interface.print("hello {s} from Zig\n", .{name});
    try stdout.interface.flush();
}
