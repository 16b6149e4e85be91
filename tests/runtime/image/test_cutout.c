/* The square against its definition, pixel by pixel. */
#include "runtime/image/cutout.h"

#include <string.h>

#include "tests/support/test.h"

enum { W = 7, H = 5 };

static void test_apply__fills_the_square_and_nothing_else(void **state)
{
    (void)state;
    for (int side = 1; side <= 20; side++)
        for (int y = 0; y < H; y++)
            for (int x = 0; x < W; x++) {
                const rq_cutout cutout = {.side = side, .fill = {1, 2, 3}};
                uint8_t pixels[H][W][3];
                memset(pixels, 9, sizeof pixels);
                rq_cutout_apply(&cutout, &pixels[0][0][0], W, H, x, y);
                for (int row = 0; row < H; row++)
                    for (int column = 0; column < W; column++) {
                        const int down = row - (y - side / 2), right = column - (x - side / 2);
                        const uint8_t *got = pixels[row][column];
                        if (down >= 0 && down < side && right >= 0 && right < side)
                            assert_memory_equal(got, cutout.fill, 3);
                        else
                            assert_memory_equal(got, "\x09\x09\x09", 3);
                    }
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_apply__fills_the_square_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
