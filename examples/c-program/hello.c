/* Greets whom it is told to, or the world. Exit 2 for more than one name, 1 where the greeting could not be written. */
#include <stdio.h>

int main(int argc, char **argv) {
  if (argc > 2) {
    fprintf(stderr, "usage: hello [NAME]\n");
    return 2;
  }
  printf("Hello, %s!\n", argc == 2 ? argv[1] : "world");
  return fflush(stdout) == 0 ? 0 : 1;
}
