/* A WASI 0.1 module in C: greets, prints its arguments and a file if there is one, and returns what it is told to. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
	if (argc == 3 && strcmp(argv[1], "exit") == 0)
		return atoi(argv[2]);
	puts("hello from C, WASI 0.1");
	for (int i = 1; i < argc; i++)
		puts(argv[i]);
	return 0;
}
