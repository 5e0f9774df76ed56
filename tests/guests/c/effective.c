// effective: prints the user whose rights the process has, for a file with the set-user-ID bit.
#include <stdio.h>
#include <unistd.h>

int main(void) {
  printf("Effective uid: %u\n", geteuid());
  return 0;
}
