// A command: it reads its arguments, says hello, and ends.
const name = process.argv.length > 1 ? process.argv[1] : "world";
console.log(`hello ${name} from AssemblyScript`);
