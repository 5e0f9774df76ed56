/* A command: it reads its arguments, says hello, and ends. */
#include <stdio.h>

int main(int argc, char **argv) {
    printf("hello %s from C\n", argc > 1 ? argv[1] : "world");
    return 0;
}
