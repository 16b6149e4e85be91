/* The square, clipped. */
#include "runtime/image/cutout.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

void rq_cutout_apply(const rq_cutout *cutout, uint8_t *pixels, int w, int h, int x, int y)
{
    const int side = cutout->side;
    assert(x >= 0 && x < w && y >= 0 && y < h);
    const int left = x - side / 2, top = y - side / 2;
    const int x0 = left > 0 ? left : 0, y0 = top > 0 ? top : 0;
    const int x1 = left + side < w ? left + side : w, y1 = top + side < h ? top + side : h;
    for (int row = y0; row < y1; row++)
        for (int column = x0; column < x1; column++)
            memcpy(pixels + ((size_t)row * (size_t)w + (size_t)column) * 3, cutout->fill, 3);
}
