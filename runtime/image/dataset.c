/* Lists an ImageFolder. Names are gathered in growing lists of arena strings, sorted, and then kept
 * in the arena. */
#include "runtime/image/dataset.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

static const char *const extensions[] = {".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".ppm", ".webp"};

/* A growing list of strings that live in the dataset's arena. */
typedef struct name_list {
    const char **items; /* rq_alloc */
    size_t n, capacity;
} name_list;

static rq_status list_add(name_list *list, const char *name, rq_error *err)
{
    if (!name)
        return rq_fail(err, RQ_ERR_NOMEM, "out of memory (file names)");
    if (list->n == list->capacity) {
        const size_t capacity = list->capacity ? 2 * list->capacity : 64;
        void *items = NULL;
        const rq_status status = rq_alloc_array_old(&items, capacity, sizeof *list->items, err);
        if (status != RQ_OK)
            return status;
        if (list->n)
            memcpy(items, list->items, list->n * sizeof *list->items);
        rq_free(list->items);
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->n++] = name;
    return RQ_OK;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void list_sort(const name_list *list, size_t first)
{
    if (list->n - first > 1)
        qsort(list->items + first, list->n - first, sizeof *list->items, compare_names);
}

static bool is_image_name(const char *name)
{
    const char *extension = strrchr(name, '.');
    for (size_t i = 0; extension && i < sizeof extensions / sizeof *extensions; i++)
        if (strcasecmp(extension, extensions[i]) == 0)
            return true;
    return false;
}

static bool is_folder(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

/* Links, and entries of file systems that do not tell, are looked up. */
static bool entry_is_folder(const struct dirent *entry, const char *path)
{
    return entry->d_type == DT_DIR ||
           ((entry->d_type == DT_LNK || entry->d_type == DT_UNKNOWN) && is_folder(path));
}

/* Add the full paths of a folder's sub-folders and images to the two lists. */
static rq_status read_folder(rq_arena *arena, const char *folder, name_list *folders,
                             name_list *images, rq_error *err)
{
    rq_status status = RQ_OK;
    DIR *stream = opendir(folder);
    if (!stream)
        return rq_fail_errno(err, folder, "open the folder");
    while (status == RQ_OK) {
        errno = 0;
        const struct dirent *entry = readdir(stream);
        if (!entry) {
            status = errno ? rq_fail_errno(err, folder, "read the folder") : RQ_OK;
            break;
        }
        const bool is_image = is_image_name(entry->d_name);
        if (entry->d_name[0] == '.' || (entry->d_type == DT_REG && !is_image))
            continue;
        const char *path = rq_arena_printf(arena, "%s/%s", folder, entry->d_name);
        if (path && entry_is_folder(entry, path))
            status = list_add(folders, path, err);
        else if (!path || is_image)
            status = list_add(images, path, err);
    }
    (void)closedir(stream);
    return status;
}

/* Add all images of a class, sorted; breadth first, so that depth is bounded without recursion. */
static rq_status read_class(rq_arena *arena, const char *folder, name_list *images, rq_error *err)
{
    name_list level = {0}, below = {0};
    const size_t first = images->n;
    rq_status status = list_add(&level, folder, err);
    for (int depth = 0; status == RQ_OK && level.n > 0; depth++) {
        if (depth > RQ_DATASET_MAX_DEPTH) {
            status = rq_fail(err, RQ_ERR_FILE, "%s: more than %d folders deep (links in a circle?)",
                             folder, RQ_DATASET_MAX_DEPTH);
            break;
        }
        for (size_t i = 0; status == RQ_OK && i < level.n; i++)
            status = read_folder(arena, level.items[i], &below, images, err);
        const name_list done = level;
        level = below;
        below = (name_list){done.items, 0, done.capacity};
    }
    rq_free(level.items);
    rq_free(below.items);
    if (status == RQ_OK && images->n == first)
        status = rq_fail(err, RQ_ERR_FILE,
                         "%s: a class folder without images (.jpg .jpeg .jpe .png .bmp .ppm .webp)",
                         folder);
    list_sort(images, first);
    return status;
}

/* The folder that holds the classes of a split, by the rule in the header. */
static rq_status find_root(rq_arena *arena, const char *dir, rq_split split, const char **root,
                           rq_error *err)
{
    static const struct {
        const char *name;
        rq_split split;
    } known[] = {{"train", RQ_SPLIT_TRAIN},
                 {"val", RQ_SPLIT_VAL},
                 {"validation", RQ_SPLIT_VAL},
                 {"test", RQ_SPLIT_VAL}};
    const char *other = NULL;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const char *path = rq_arena_printf(arena, "%s/%s", dir, known[i].name);
        if (!path)
            return rq_fail(err, RQ_ERR_NOMEM, "out of memory (folder names)");
        if (!is_folder(path))
            continue;
        if (known[i].split == split) {
            *root = path;
            return RQ_OK;
        }
        other = known[i].name;
    }
    if (other)
        return rq_fail(err, RQ_ERR_FILE, "%s: has a folder '%s' but no %s", dir, other,
                       split == RQ_SPLIT_TRAIN ? "'train'" : "'val', 'validation' or 'test'");
    *root = rq_arena_strdup(arena, dir);
    return *root ? RQ_OK : rq_fail(err, RQ_ERR_NOMEM, "out of memory (folder names)");
}

/* Move the gathered lists into the dataset. first[c] is the position of class c's first image. */
static rq_status keep(rq_dataset *dataset, const name_list *classes, const name_list *images,
                      const size_t *first, rq_error *err)
{
    rq_status status;
    void *names = NULL, *paths = NULL, *labels = NULL;
    if ((status = rq_arena_array_old(&dataset->arena, &names, classes->n, sizeof(char *), err)) ||
        (status = rq_arena_array_old(&dataset->arena, &paths, images->n, sizeof(char *), err)) ||
        (status = rq_arena_array_old(&dataset->arena, &labels, images->n, sizeof(int32_t), err)))
        return status;
    dataset->class_names = names;
    dataset->paths = paths;
    dataset->labels = labels;
    dataset->n_classes = (int)classes->n;
    dataset->n_images = images->n;
    for (size_t c = 0; c < classes->n; c++) {
        dataset->class_names[c] = strrchr(classes->items[c], '/') + 1;
        const size_t end = c + 1 < classes->n ? first[c + 1] : images->n;
        for (size_t i = first[c]; i < end; i++) {
            dataset->paths[i] = images->items[i];
            dataset->labels[i] = (int32_t)c;
        }
    }
    return RQ_OK;
}

rq_status rq_dataset_open(rq_dataset *out, const char *dir, rq_split split, rq_error *err)
{
    rq_dataset dataset = {.arena = RQ_ARENA_INIT};
    name_list classes = {0}, images = {0}, loose = {0};
    void *first = NULL;
    *out = (rq_dataset){.arena = RQ_ARENA_INIT};
    rq_status status = find_root(&dataset.arena, dir, split, &dataset.root, err);
    if (status != RQ_OK)
        goto out;
    status = read_folder(&dataset.arena, dataset.root, &classes, &loose, err);
    if (status != RQ_OK)
        goto out;
    if (classes.n == 0) {
        status = rq_fail(err, RQ_ERR_FILE, "%s: no class folders in it", dataset.root);
        goto out;
    }
    list_sort(&classes, 0);
    status = rq_alloc_array_old(&first, classes.n, sizeof(size_t), err);
    for (size_t c = 0; status == RQ_OK && c < classes.n; c++) {
        ((size_t *)first)[c] = images.n;
        status = read_class(&dataset.arena, classes.items[c], &images, err);
    }
    if (status == RQ_OK && (images.n > UINT32_MAX || classes.n > INT32_MAX))
        status = rq_fail(err, RQ_ERR_FILE, "%s: %zu images in %zu classes are too many",
                         dataset.root, images.n, classes.n);
    if (status == RQ_OK)
        status = keep(&dataset, &classes, &images, first, err);
out:
    rq_free(classes.items);
    rq_free(images.items);
    rq_free(loose.items);
    rq_free(first);
    if (status == RQ_OK)
        *out = dataset;
    else
        rq_dataset_close(&dataset);
    return status;
}

void rq_dataset_close(rq_dataset *dataset)
{
    rq_arena_deinit(&dataset->arena);
    *dataset = (rq_dataset){.arena = RQ_ARENA_INIT};
}
