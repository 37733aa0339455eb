#include <stdio.h>
#include "version.h"

int main(void) {
    puts("tool " VERSION);
    return 0;
}
