"""Checks of exercise 10. The references are plain loops, not the solutions."""

import numpy as np

from checking import Function, Special
from mistakes import advised

# --- Inputs ----------------------------------------------------------------------------------------------------------


def labels_and_classes(rng):
    classes = int(rng.integers(4, 9))
    return {"c": rng.integers(0, classes - 1, int(rng.integers(9, 14))), "num_classes": classes}


def two_matrices(rng):
    """As wide as each other: what stacks, adds or mixes them must not stop."""
    n, d = rng.permutation([2, 3, 4, 5, 6, 7])[:2]
    condition = rng.standard_normal((n, d))
    return {"h": rng.standard_normal((n, d)), "condition": np.where(rng.random((n, d)) < 0.2, 1, condition)}


def codes_and_labels(rng):
    size, latents = int(rng.integers(40, 60)), int(rng.integers(2, 5))
    classes = rng.permutation(8)[: rng.integers(3, 6)] + rng.integers(0, 2)
    often = np.repeat(classes, range(len(classes)))  # the first class has one code or two, the others more and more
    labels = rng.permutation(np.concatenate([classes, classes[: size % 2], rng.choice(often, size)]))
    spread = rng.uniform(0.5, 2, latents)
    mu = spread * (1.2 * rng.standard_normal((9, latents))[labels] + rng.standard_normal((len(labels), latents))) + 1
    return {"mu": mu, "labels": labels}


# --- References ------------------------------------------------------------------------------------------------------


def written_out(c, num_classes):
    rows = np.zeros((len(c), num_classes))
    for row, label in zip(rows, c, strict=True):
        row[label] = 1
    return rows


def side_by_side(h, condition):
    return np.array([[*row, *extra] for row, extra in zip(h, condition, strict=True)])


def accuracy(mu, labels):
    mu = mu.astype(float)
    means = {label: mu[labels == label].mean(0) for label in sorted(set(labels.tolist()))}
    right = 0
    for code, label in zip(mu, labels.tolist(), strict=True):
        right += min(means, key=lambda each: np.linalg.norm(code - means[each])) == label
    return np.float64(right / len(mu))


# --- What may be done instead ----------------------------------------------------------------------------------------


def one_hot_model(choose, c, num_classes):
    n = len(c)
    label = choose(
        c,
        ("counted from one, class 0 last", (c - 1) % num_classes,
         "the ones stand one place too far left: classes are counted from 0."),
        ("counted from one, class 0 nowhere", c - 1,
         "the ones stand one place too far left: classes are counted from 0."),
        ("counted from one, class 0 with class 1", np.maximum(c - 1, 0),
         "the ones stand one place too far left: classes are counted from 0."),
        ("one place too far right, the last class first", (c + 1) % num_classes,
         "the ones stand one place too far right: classes are counted from 0."),
        ("one place too far right", c + 1, "the ones stand one place too far right: classes are counted from 0."),
        ("classes from the right", num_classes - 1 - c, "the ones are counted from the right."),
        ("numbered as they occur", np.unique(c, return_inverse=True)[1],
         "you number the classes that occur in this batch. A class has its number in every batch."),
        ("the number of the row", np.arange(n), "where the one stands depends on the row, not on its label."),
        ("the number of the row, again and again", np.arange(n) % num_classes,
         "where the one stands depends on the row, not on its label."),
        ("the labels in order of size", np.sort(c), "the rows come in order of size. Whose are they then?"),
        ("the labels in the opposite order", c[::-1], "the rows come in the opposite order."),
        ("the first label for all", np.full(n, c[0]), "all rows are that of the first label."),
        ("the last label for all", np.full(n, c[-1]), "all rows are that of the last label."),
    )  # fmt: skip
    batch = "the width depends on the labels of this batch. A batch without a nine still needs its column."
    width = choose(
        num_classes,
        ("as wide as the largest label", c.max() + 1, batch),
        ("as wide as classes occur", len(np.unique(c)), batch),
        ("as wide as the largest label, less one", c.max(), batch),
        ("a column too many", num_classes + 1, "there is a column too many."),
        ("a column too few", num_classes - 1, "there is a column too few."),
        ("ten columns", 10, "your number of classes is fixed. Where does `num_classes` come in?"),
        ("as wide as the batch", n, "the width is the number of labels. How many classes are there?"),
    )
    place, own = np.arange(width), label[:, None]
    ones = choose(
        (place == own) * 1.0,
        ("all up to the label", (place <= own) * 1.0,
         "all places up to the label hold a one. There should be one in each row."),
        ("all before the label", (place < own) * 1.0,
         "all places before the label hold a one. There should be one in each row."),
        ("all from the label on", (place >= own) * 1.0,
         "all places from the label on hold a one. There should be one in each row."),
        ("a zero in ones", (place != own) * 1.0, "ones and zeros are exchanged."),
        ("a second one on the left", (place == own) + (place == own - 1) * 1.0, "there should be one 1 in each row."),
        ("a second one on the right", (place == own) + (place == own + 1) * 1.0, "there should be one 1 in each row."),
        ("the distance to the label", np.abs(place - own) * 1.0,
         "each place holds how far it is from the label. What belongs there?"),
        ("the numbers of the classes", place + 0 * own, "every row holds the numbers of the classes."),
        ("the label in the first place", own * (place == 0),
         "the label itself stands in the first place. Each class should have its own."),
        ("less and less away from the label", np.exp(-np.abs(place - own)),
         "places near the label hold something, too. What belongs there?"),
        ("the label in every place", own + 0 * place, "every place holds the label."),
        ("the label in binary", (own >> place) & 1,
         "you write the label in binary. Each class should have its own place."),
    )  # fmt: skip
    told, seen = ones.max(0), np.arange(len(ones))
    rows = choose(
        ones,
        ("ones of other rows", np.broadcast_to(told, ones.shape),
         "every row has the ones of all labels. Which rows do you write to?"),
        ("ones of earlier rows", np.maximum.accumulate(ones, 0),
         "the ones of earlier rows are still there: start each row anew."),
        ("counts so far", np.cumsum(ones, 0), "the ones of earlier rows are added up: start each row anew."),
        ("whole rows of ones", np.isin(seen, label)[:, None] + 0.0 * ones,
         "whole rows are one. A label is no number of a row."),
        ("nothing but the first row", ones * (seen == 0)[:, None], "only the first row is written."),
        ("nothing but the last row", ones * (seen == n - 1)[:, None], "only the last row is written."),
        ("without the first row", ones * (seen > 0)[:, None], "the first row stays empty."),
        ("without the last row", ones * (seen < n - 1)[:, None], "the last row stays empty: where does the range end?"),
        ("no ones", 0 * ones, "all is zero."),
        ("a class only once", ones * (np.cumsum(ones, 0) == 1), "a class that comes again gets no one."),
        ("only the last image of a class", ones * (np.cumsum(ones[::-1], 0)[::-1] == 1),
         "of the images of a class only the last one gets its 1."),
        ("class 0 empty", ones * (place > 0), "class 0 leaves no trace."),
        ("the last class empty", ones * (place < width - 1), "the last class leaves no trace."),
    )  # fmt: skip
    value = choose(
        rows,
        ("the label in its place", rows * c[:, None],
         "you wrote the label itself in its place. Then class 0 leaves no trace, and 8 shouts."),
        ("the label and one in its place", rows * (c[:, None] + 1),
         "what you write depends on the label. Then the last class shouts."),
        ("the number of classes in its place", rows * num_classes,
         "the value depends on the number of classes. What should it be?"),
        ("shared among the classes", rows / num_classes,
         "the value depends on the number of classes. What should it be?"),
        ("shared among the images", rows / n, "the value depends on the number of labels. What should it be?"),
        ("shared within a class", rows / np.maximum(rows.sum(0), 1),
         "the value depends on how often the class occurs. What should it be?"),
        ("-1 for 0", 2 * rows - 1, "what should stand in the other places of a row?"),
        ("smoothed by a tenth", 0.9 * rows + 0.1 / width,
         "you smooth the labels. What should stand in the other places?"),
        ("smoothed by a hundredth", 0.99 * rows + 0.01 / width,
         "you smooth the labels. What should stand in the other places?"),
        ("a softmax", softmax(rows), "a softmax has no zeros."),
        ("less the mean", rows - rows.mean(), "the mean has been taken off."),
        ("divided by the length of the row", rows / np.sqrt(width),
         "the value depends on the number of classes. What should it be?"),
    )  # fmt: skip
    return choose(
        value,
        ("columns for rows", value.T, "the images run along the columns. Each row should be one image."),
        ("columns for rows, reshaped", value.T.reshape(value.shape),
         "reshaping does not ask which image a number belongs to. Are rows and columns exchanged before?"),
        ("one row of counts for the whole batch", value.sum(0),
         "one row comes out for the whole batch, with counts in it. Each image needs its own."),
        ("one row for the whole batch", value.max(0),
         "one row comes out for the whole batch. Each image needs its own."),
        ("the mean row for the batch", value.mean(0),
         "one row comes out for the whole batch. Each image needs its own."),
        ("the first row alone", value[0], "one row comes out. Each image needs its own."),
        ("the last row alone", value[-1], "one row comes out. Each image needs its own."),
        ("flat", value.ravel(), "all rows stand behind each other. Each image needs its own."),
        ("an axis too many in front", value[None], "there is one axis too many."),
        ("an axis too many in the middle", value[:, None], "there is one axis too many."),
        ("an axis too many behind", value[:, :, None], "there is one axis too many."),
        ("the labels as a column", c[:, None],
         "these are the labels themselves, in a column. Each should become a row of numbers."),
        ("the labels themselves", c, "these are the labels themselves. Each should become a row of numbers."),
        ("the places of the ones", np.argwhere(value),
         "these are the places of the ones. What is the array that holds them?"),
        ("without column 0", value[:, 1:], "the column of class 0 is missing."),
        ("each class once", np.eye(width)[np.unique(c) % width],
         "there is a row for each class that occurs. Each image needs its own."),
        ("the labels as a column of shares", c[:, None] / num_classes,
         "the label is a number still. Each should become a row of numbers."),
        ("the label in front", np.column_stack([c, value]), "the label itself stands in the row, too."),
    )  # fmt: skip


def beside(h, condition):
    return np.concatenate([h, condition], 1)


def append_model(choose, h, condition):
    zeros = "a column of zeros stands in your rows."
    wide = "Each image should get its own condition, in its row."
    way = choose(
        beside,
        ("below instead of beside", lambda h, c: np.concatenate([h, c]),
         f"the conditions follow as further images. {wide}"),
        ("the condition below h", lambda h, c: np.concatenate([c, h]),
         f"the conditions come as further images, in front. {wide}"),
        ("the condition first", lambda h, c: beside(c, h),
         "the condition stands before h. The weights of trained models expect it behind."),
        ("added", lambda h, c: h + c,
         "you add the two. Then they share their places, and it works only when the sizes happen to agree."),
        ("subtracted", lambda h, c: h - c, "you subtract the two. Then they share their places."),
        ("multiplied", lambda h, c: h * c,
         "you multiply the two, so that a zero in the condition wipes a feature out."),
        ("averaged", lambda h, c: (h + c) / 2, "you average the two. Then they share their places."),
        ("the larger of both", np.maximum, "you keep the larger of the two. Then they share their places."),
        ("a matrix product", lambda h, c: h @ c.T,
         "you multiply matrices. The row of an image should just become longer."),
        ("interleaved", lambda h, c: np.stack([h, c], 2).reshape(len(h), -1),
         "the two take turns. First all of h, then all of the condition."),
        ("the condition first, interleaved", lambda h, c: np.stack([c, h], 2).reshape(len(h), -1),
         "the two take turns. First all of h, then all of the condition."),
        ("rows that take turns", lambda h, c: np.stack([h, c], 1).reshape(-1, h.shape[1]),
         f"the rows take turns: an image, a condition. {wide}"),
        ("a third axis in front", lambda h, c: np.stack([h, c]),
         "a new axis appears. The row of an image should just become longer."),
        ("a third axis", lambda h, c: np.stack([h, c], 1),
         "a new axis appears. The row of an image should just become longer."),
        ("a third axis behind", lambda h, c: np.stack([h, c], 2),
         "a new axis appears. The row of an image should just become longer."),
        ("every product", lambda h, c: (h[:, :, None] * c[:, None]).reshape(len(h), -1),
         "you multiply all with all. The row of an image should just become longer."),
        ("without the condition", lambda h, c: h, "the condition is not there."),
        ("without h", lambda h, c: c, "h is not there."),
        ("h instead of the condition", lambda h, c: beside(h, h), "h stands there twice. Where is the condition?"),
        ("the condition twice", lambda h, c: beside(c, c), "the condition stands there twice. Where is h?"),
        ("the sum behind h", lambda h, c: beside(h, h + c), "you add before you append."),
        ("the product behind h", lambda h, c: beside(h, h * c), "you multiply before you append."),
        ("flat", lambda h, c: np.append(h, c),
         "one long row comes out for all images. Along which axis should they grow?"),
        ("flat and reshaped", lambda h, c: np.append(h, c).reshape(len(h), -1),
         "reshaping does not ask which image a number belongs to. Along which axis should the rows grow?"),
        ("flat and reshaped, the other way", lambda h, c: np.concatenate([h, c]).T.reshape(len(h), -1),
         "reshaping does not ask which image a number belongs to. Along which axis should the rows grow?"),
        ("stacked as columns and reshaped", lambda h, c: np.concatenate([h.T, c.T]).reshape(len(h), -1),
         "reshaping does not ask which image a number belongs to. Along which axis should the rows grow?"),
        ("the sum in front of the condition", lambda h, c: beside(h + c, c), "you add before you append."),
        ("the product in front of the condition", lambda h, c: beside(h * c, c), "you multiply before you append."),
        ("every image with every condition", lambda h, c: beside(np.repeat(h, len(c), 0), np.tile(c, (len(h), 1))),
         f"you pair every image with every condition. {wide}"),
        ("in the last places of h", lambda h, c: beside(h[:, : max(h.shape[1] - c.shape[1], 0)], c),
         "the condition overwrites the end of h. The row should become longer."),
        ("in the first places of h", lambda h, c: beside(c, h[:, c.shape[1] :])[:, : h.shape[1]],
         "the condition overwrites the beginning of h. The row should become longer."),
        ("behind the first column", lambda h, c: np.column_stack([h[:, :1], c, h[:, 1:]]),
         "the condition stands in the middle of h. The weights of trained models expect it behind."),
        ("before the last column", lambda h, c: np.column_stack([h[:, :-1], c, h[:, -1:]]),
         "the condition stands in the middle of h. The weights of trained models expect it behind."),
        ("a column of zeros behind", lambda h, c: np.column_stack([h, c, np.zeros(len(h))]), zeros),
        ("a column of zeros in front", lambda h, c: np.column_stack([np.zeros(len(h)), h, c]), zeros),
        ("a column of zeros between", lambda h, c: np.column_stack([h, np.zeros(len(h)), c]), zeros),
        ("room for h twice", lambda h, c: beside(beside(h, c), np.zeros_like(h))[:, : 2 * h.shape[1]],
         "how long is the row? The two need not be equally wide."),
    )  # fmt: skip
    left = choose(
        lambda: h,
        ("h without its last column", lambda: h[:, :-1], "the last column of h is missing."),
        ("h without its first column", lambda: h[:, 1:], "the first column of h is missing."),
        ("the length of h", lambda: np.linalg.norm(h, axis=1, keepdims=True), "one number is left of each row of h."),
        ("the sum of h", lambda: h.sum(1, keepdims=True), "one number is left of each row of h."),
        ("the mean of h", lambda: h.mean(1, keepdims=True), "one number is left of each row of h."),
        ("h of length 1", lambda: h / np.linalg.norm(h, axis=1, keepdims=True),
         "you change the length of h. The values stay as they are."),
        ("h in whole numbers", lambda: np.trunc(h),
         "what stands behind the point of h is lost: of which dtype is the result?"),
        ("each row of h in order of size", lambda: np.sort(h, 1),
         "the features of an image come in order of size. Which is which then?"),
        ("h a column further", lambda: np.roll(h, 1, 1), "the columns of h are shifted."),
        ("h a column back", lambda: np.roll(h, -1, 1), "the columns of h are shifted."),
        ("h a row further", lambda: np.roll(h, 1, 0), "each image gets the features of another one."),
        ("h with the sum of the condition", lambda: h + condition.sum(1, keepdims=True),
         "the condition changes h. The values stay as they are."),
        ("h with the place of the largest condition", lambda: h + condition.argmax(1)[:, None],
         "the condition changes h. The values stay as they are."),
        ("h twice", lambda: beside(h, h), "h stands there twice."),
        ("every column of h twice", lambda: np.repeat(h, 2, 1), "every column of h stands there twice."),
        ("h divided by its sum", lambda: h / h.sum(1, keepdims=True),
         "you change the values of h. They stay as they are."),
        ("a softmax of h", lambda: softmax(h), "you change the values of h. They stay as they are."),
        ("a sigmoid of h", lambda: 1 / (1 + np.exp(-h)), "you change the values of h. They stay as they are."),
        ("tanh of h", lambda: np.tanh(h), "you change the values of h. They stay as they are."),
        ("each column of h on one scale", lambda: on_one_scale(h, 0),
         "you change the values of h. They stay as they are."),
        ("each row of h on one scale", lambda: on_one_scale(h, 1),
         "you change the values of h. They stay as they are."),
        ("the first row of h", lambda: np.broadcast_to(h[:1], h.shape), "all rows hold the first row of h."),
    )()  # fmt: skip
    right = choose(
        lambda: condition,
        ("the place of the largest condition", lambda: condition.argmax(1)[:, None],
         "one number is left of each condition: a network cannot do much with it."),
        ("the place of the largest condition in each column", lambda: condition.argmax(1)[:, None] + 0 * condition,
         "one number is left of each condition: a network cannot do much with it."),
        ("the sum of the condition in each column", lambda: condition.sum(1, keepdims=True) + 0 * condition,
         "one number is left of each condition."),
        ("each condition in order of size", lambda: np.sort(condition, 1),
         "each condition comes in order of size. Which place is which class then?"),
        ("the condition a column further", lambda: np.roll(condition, 1, 1),
         "the columns of the condition are shifted: which place is which class?"),
        ("the condition a column back", lambda: np.roll(condition, -1, 1),
         "the columns of the condition are shifted: which place is which class?"),
        ("the largest condition", lambda: condition.max(1, keepdims=True), "one number is left of each condition."),
        ("the sum of the condition", lambda: condition.sum(1, keepdims=True), "one number is left of each condition."),
        ("the mean of the condition", lambda: condition.mean(1, keepdims=True),
         "one number is left of each condition."),
        ("the first column of the condition alone", lambda: condition[:, :1], "one column is left of the condition."),
        ("the condition without its last column", lambda: condition[:, :-1],
         "the last column of the condition is missing."),
        ("the condition without its first column", lambda: condition[:, 1:],
         "the first column of the condition is missing."),
        ("a row too late", lambda: np.roll(condition, 1, 0), "each image gets the condition of another one."),
        ("a row too early", lambda: np.roll(condition, -1, 0), "each image gets the condition of another one."),
        ("the first condition for all", lambda: np.broadcast_to(condition[:1], condition.shape),
         "every image gets the condition of the first one. Each should get its own."),
        ("the last condition for all", lambda: np.broadcast_to(condition[-1:], condition.shape),
         "every image gets the condition of the last one. Each should get its own."),
        ("the mean condition for all", lambda: np.broadcast_to(condition.mean(0), condition.shape),
         "every image gets the same condition. Each should get its own."),
        ("zeros for the condition", lambda: 0 * condition, "there is room for the condition, but nothing in it."),
        ("the condition in whole numbers", lambda: np.trunc(condition),
         "what stands behind the point of the condition is lost: of which dtype is the result?"),
        ("yes or no", lambda: (condition != 0) * 1.0,
         "the values of the condition are lost: is it taken for true or false?"),
        *((name, lambda one=one: one * 1.0, "the values of the condition are lost: they are compared with something.")
          for name, one in (("positive or not", condition > 0), ("above a half or not", condition > 0.5),
                            ("1 or not", condition == 1))),
        ("the condition twice behind h", lambda: beside(condition, condition), "the condition stands there twice."),
        ("every column of the condition twice", lambda: np.repeat(condition, 2, 1),
         "every column of the condition stands there twice."),
        *advised(
            "you change the values of the condition. They stay as they are.",
            ("the condition divided by its sum", lambda: condition / condition.sum(1, keepdims=True)),
            ("each column of the condition on one scale", lambda: on_one_scale(condition, 0)),
            ("each condition on one scale", lambda: on_one_scale(condition, 1)),
            ("a sigmoid of the condition", lambda: 1 / (1 + np.exp(-condition))),
            ("tanh of the condition", lambda: np.tanh(condition)),
        ),
        ("the condition as a one-hot vector", lambda: np.eye(condition.shape[1])[condition.argmax(1)],
         "the values of the condition are lost. They stay as they are."),
        ("a condition of length 1", lambda: condition / np.linalg.norm(condition, axis=1, keepdims=True),
         "you change the length of the condition. The values stay as they are."),
        ("a softmax of the condition", lambda: softmax(condition),
         "you change the values of the condition. They stay as they are."),
    )()  # fmt: skip
    by_class = np.argsort(condition.argmax(1), kind="stable")
    left, right = choose(
        lambda: (left, right),
        ("images in order of their classes", lambda: (left[by_class], right[by_class]),
         "the images come in order of their classes. Keep the order of the batch."),
        ("conditions in order of their classes", lambda: (left, right[by_class]),
         "the conditions come in another order than the images."),
        ("features in order of the classes", lambda: (left[by_class], right),
         "the features come in another order than the conditions."),
    )()  # fmt: skip
    rows = way(left, right)
    image = np.arange(len(rows)).reshape(-1, *[1] * (rows.ndim - 1))
    return choose(
        lambda: rows,
        ("all in whole numbers", lambda: np.trunc(rows),
         "what stands behind the point is lost: of which dtype is the result?"),
        ("flat behind each other", lambda: rows.ravel(),
         "all rows stand behind each other. Each image should get its own."),
        ("each row in order of size", lambda: np.sort(rows, -1),
         "the numbers of a row come in order of size. Which is which then?"),
        ("rows of length 1", lambda: rows / np.linalg.norm(rows, axis=-1, keepdims=True),
         "you change the length of the rows. The values stay as they are."),
        ("rows on one scale", lambda: on_one_scale(rows, 1), "you change the values. They stay as they are."),
        ("columns on one scale", lambda: on_one_scale(rows, 0), "you change the values. They stay as they are."),
        ("a softmax", lambda: softmax(rows), "you change the values. They stay as they are."),
        ("a sigmoid", lambda: 1 / (1 + np.exp(-rows)), "you change the values. They stay as they are."),
        ("tanh", lambda: np.tanh(rows), "you change the values. They stay as they are."),
        ("the last row empty", lambda: rows * (image < len(rows) - 1),
         "the last row stays empty: where does the range end?"),
        ("the first row empty", lambda: rows * (image > 0), "the first row stays empty: where does the range begin?"),
        ("nothing but the last row", lambda: rows * (image == len(rows) - 1), "only the last row is written."),
        ("nothing but the first row", lambda: rows * (image == 0), "only the first row is written."),
        ("without the last image", lambda: rows[:-1], "the last image is missing: where does the range end?"),
        ("without the first image", lambda: rows[1:], "the first image is missing: where does the range begin?"),
        ("the last image alone", lambda: rows[-1], "one row comes out. Each image should get its own."),
        ("the first image alone", lambda: rows[0], "one row comes out. Each image should get its own."),
        ("the last image for all", lambda: rows[-1:] + 0 * rows,
         "all rows are that of the last image. Is it one object?"),
        ("an axis too many in front", lambda: rows[None], "there is one axis too many."),
        ("an axis too many behind", lambda: rows[..., None], "there is one axis too many."),
    )()  # fmt: skip


def softmax(rows):
    return np.exp(rows) / np.exp(rows).sum(1, keepdims=True)


def on_one_scale(rows, axis):
    return (rows - rows.mean(axis, keepdims=True)) / rows.std(axis, keepdims=True)


def share_model(choose, mu, labels):
    n = len(mu)
    all_latents = "All of them enter the distance."
    codes = choose(
        lambda: mu,
        ("the first latent only", lambda: mu[:, :1], f"only the first latent enters the distance. {all_latents}"),
        ("the last latent only", lambda: mu[:, -1:], f"only the last latent enters the distance. {all_latents}"),
        ("the first two latents only", lambda: mu[:, :2],
         f"only the first two latents enter the distance. {all_latents}"),
        ("without the last latent", lambda: mu[:, :-1] if mu.shape[1] > 1 else mu,
         f"the last latent does not enter the distance. {all_latents}"),
        ("without the first latent", lambda: mu[:, 1:] if mu.shape[1] > 1 else mu,
         f"the first latent does not enter the distance. {all_latents}"),
        ("codes less their mean", lambda: mu - mu.mean(0), "you move the codes first."),
        ("codes of length 1", lambda: mu / np.linalg.norm(mu, axis=1, keepdims=True),
         "you give all codes the same length first. Only their directions are left."),
        ("every latent on one scale", lambda: on_one_scale(mu, 0),
         "you put the latents on one scale first. The distance is that of the codes as they are."),
        ("every latent between 0 and 1", lambda: (mu - mu.min(0)) / np.ptp(mu, axis=0),
         "you put the latents on one scale first. The distance is that of the codes as they are."),
        ("the first principal component", lambda: components(mu, 1),
         "you project the codes first. The distance is that of the codes as they are."),
        ("two principal components", lambda: components(mu, 2),
         "you project the codes first. The distance is that of the codes as they are."),
        ("the length of the codes", lambda: np.linalg.norm(mu, axis=1, keepdims=True),
         "one number is left of each code: its length."),
    )()  # fmt: skip
    occur, often = np.unique(labels, return_counts=True)
    fixed = "Which classes are there?"
    classes, empty = choose(
        (occur, 0.0),
        ("means of 0 for classes that do not occur", (np.arange(labels.max() + 1), 0.0),
         "classes that do not occur have a mean in yours, and codes come near it."),
        ("NaN for classes that do not occur", (np.arange(labels.max() + 1), np.nan),
         "classes that do not occur have a mean in yours. It is NaN, and what is nearest to that?"),
        ("ten classes, means of 0 for those that do not occur", (np.arange(10), 0.0),
         "classes that do not occur have a mean in yours, and codes come near it."),
        ("ten classes, NaN for those that do not occur", (np.arange(10), np.nan),
         "classes that do not occur have a mean in yours. It is NaN, and what is nearest to that?"),
        ("as many classes from 0 on, 0 if one does not occur", (np.arange(len(occur)), 0.0),
         f"you count the classes and number them from 0. {fixed}"),
        ("as many classes from 0 on, infinity if one does not occur", (np.arange(len(occur)), np.inf),
         f"you count the classes and number them from 0. {fixed}"),
        ("without classes of a single code", (occur[often > 1] if (often > 1).any() else occur, 0.0),
         f"a class of a single code has no mean in yours. {fixed}"),
        ("without the last class", (occur[:-1] if len(occur) > 1 else occur, 0.0),
         f"the last class has no mean. {fixed}"),
        ("without the first class", (occur[1:] if len(occur) > 1 else occur, 0.0),
         f"the first class has no mean. {fixed}"),
        ("without class 0", (occur[occur > 0] if occur.any() else occur, 0.0), f"class 0 has no mean. {fixed}"),
        ("the classes from the largest on", (occur[::-1], 0.0), "the classes come in the opposite order."),
        ("as they come", (labels[np.sort(np.unique(labels, return_index=True)[1])], 0.0),
         "the classes come in the order of the codes."),
    )  # fmt: skip
    members = [codes[labels == each] for each in classes]

    def of_members(reduce):
        return np.array([reduce(each) if len(each) else np.full(codes.shape[1], empty) for each in members])

    average = of_members(lambda each: each.mean(0))
    counts = np.array([max(len(each), 1) for each in members])[:, None]
    means = choose(
        lambda: average,
        ("medians", lambda: of_members(lambda each: np.median(each, 0)),
         "you take the medians of the classes. The text asks for their means."),
        ("sums", lambda: average * counts, "you take the sums of the codes. A class with many codes is then far away."),
        ("sums over all codes", lambda: average * counts / n,
         "you divide the sum of a class by the number of all codes."),
        ("a sum divided by one less", lambda: average * counts / np.maximum(counts - 1, 1),
         "you divide by one code less. That belongs to a variance."),
        ("a sum divided by one more", lambda: average * counts / (counts + 1),
         "you divide by one code more than the class has."),
        ("the first code of a class", lambda: of_members(lambda each: each[0]),
         "one code stands for the class. The text asks for the mean."),
        ("the last code of a class", lambda: of_members(lambda each: each[-1]),
         "one code stands for the class. The text asks for the mean."),
        ("the code in the middle of a class", lambda: of_members(middle),
         "one code stands for the class. The text asks for the mean."),
        ("classes of equal size", lambda: cut(codes[np.argsort(labels, kind="stable")], len(classes)),
         "you cut the codes into equal parts. Classes have different sizes."),
        ("codes cut in their order", lambda: cut(codes, len(classes)),
         "you cut the codes into parts as they come. Which code has which label?"),
        ("the middle of the range", lambda: of_members(lambda each: (each.min(0) + each.max(0)) / 2),
         "you take the middle between the smallest and the largest. The text asks for the mean."),
        ("the largest values", lambda: of_members(lambda each: each.max(0)),
         "you take the largest values of a class. The text asks for the mean."),
        ("the smallest values", lambda: of_members(lambda each: each.min(0)),
         "you take the smallest values of a class. The text asks for the mean."),
        ("running means", lambda: of_members(halved),
         "your running mean gives every new code the same weight as all those before it."),
    )()  # fmt: skip
    apart = codes[:, None] - means
    distances = choose(
        lambda: (apart**2).sum(2),
        ("the sum of the differences", lambda: np.abs(apart).sum(2),
         "you add the differences up. The distance of two codes is another one."),
        ("the largest difference", lambda: np.abs(apart).max(2),
         "you look at the largest difference only. All latents enter the distance."),
        ("the smallest difference", lambda: np.abs(apart).min(2),
         "you look at the smallest difference only. All latents enter the distance."),
        ("differences with their signs", lambda: apart.sum(2), "differences with opposite signs cancel in yours."),
        ("only the sum of the latents counts", lambda: np.abs(apart.sum(2)),
         "in your distance only the sum, or the mean, of a code's latents counts. Each latent has its own "
         "difference."),
        ("the product of the differences", lambda: np.abs(apart).prod(2),
         "you multiply the differences. One that is small hides the others."),
        ("to the fourth power", lambda: (apart**4).sum(2),
         "you take another power. The distance of two codes is another one."),
        ("to the third power", lambda: (np.abs(apart) ** 3).sum(2),
         "you take another power. The distance of two codes is another one."),
        ("roots", lambda: np.sqrt(np.abs(apart)).sum(2),
         "you take another power. The distance of two codes is another one."),
        ("the product of code and mean", lambda: -codes @ means.T,
         "you take the mean with the largest product. Long means win that. What is nearest?"),
        ("the angle", lambda: 1 - cosines(codes, means), "you compare directions. What is nearest?"),
        ("the distance of the lengths", lambda: np.abs(lengths(codes)[:, None] - lengths(means)),
         "you compare the lengths of codes and means. What is nearest?"),
        ("the sign of the mixed term", lambda: (means**2).sum(1) + 2 * codes @ means.T,
         "the square of a difference has three terms: look at the signs."),
        ("the sign of the mean's square", lambda: -2 * codes @ means.T - (means**2).sum(1),
         "the square of a difference has three terms: look at the signs."),
        ("half of the mixed term", lambda: (means**2).sum(1) - codes @ means.T,
         "the square of a difference has three terms: look at the one in the middle."),
        ("the length of the means", lambda: np.broadcast_to((means**2).sum(1), (n, len(means))),
         "your distance does not depend on the code."),
        ("measured in spreads", lambda: ((apart / of_members(lambda each: each.std(0) + 1e-12)) ** 2).sum(2),
         "you measure in spreads of the class. The distance is that of the codes as they are."),
        ("measured in the spread of the class", lambda: (apart**2).sum(2) / (of_members(spread).sum(1) + 1e-12),
         "you measure in the spread of the class. The distance is that of the codes as they are."),
        ("with the size of the class", lambda: (apart**2).sum(2) / 2 - np.log(counts[:, 0]),
         "you favour classes with many codes. What is nearest?"),
        ("without the code itself", lambda: leaving_out(codes, labels, classes),
         "you leave the code out of its own class's mean. That is fairer, but not what the text asks for."),
        ("the distance of the squared lengths", lambda: np.abs(lengths(codes)[:, None] ** 2 - lengths(means) ** 2),
         "you compare squares of lengths. What is nearest?"),
    )()  # fmt: skip
    order = distances.argsort(1)
    nearest = choose(
        lambda: distances.argmin(1),
        ("the farthest mean", lambda: distances.argmax(1),
         "you give each code the class of the mean that is farthest away."),
        ("the second nearest mean", lambda: order[:, min(1, order.shape[1] - 1)],
         "you give each code the class of the second nearest mean."),
        ("the mean that is nearest to all codes", lambda: np.full(n, distances.sum(0).argmin()),
         "you decide once for all codes. Each has its own nearest mean."),
        ("one nearest mean for all", lambda: np.full(n, distances.min(0).argmin()),
         "you decide once for all codes. Each has its own nearest mean."),
        ("the most frequent class", lambda: np.full(n, counts[:, 0].argmax()),
         "you say the most frequent class of all codes. Where do the codes come in?"),
    )()  # fmt: skip
    read = choose(
        lambda: classes[nearest],
        ("places taken for classes", lambda: nearest,
         "you compare a place in the list of classes with a label. If a class is missing, they differ."),
        ("places counted from 1 taken for classes", lambda: nearest + 1,
         "you compare a place in the list of classes with a label. If a class is missing, they differ."),
        ("places counted from the smallest class", lambda: nearest + occur[0],
         "you compare a place in the list of classes with a label. If a class is missing, they differ."),
        ("places in the labels", lambda: labels[nearest % n], "you take the place of a class for that of a code."),
        ("places among sorted labels", lambda: np.sort(labels)[nearest % n],
         "you take the place of a class for that of a code."),
    )()  # fmt: skip
    own = choose(
        lambda: labels,
        ("compared with the places of the labels", lambda: np.searchsorted(occur, labels),
         "one side is a place in the list of classes, the other a label."),
        ("compared with labels in order of size", lambda: np.sort(labels), "codes and labels must stay in one order."),
        ("compared with the class list", lambda: np.resize(classes, n),
         "what is each class compared with? Every code has its label."),
    )()  # fmt: skip
    hits = choose(
        lambda: read == own,
        ("or a class below", lambda: read <= own, "a larger label is no better label. When is a class right?"),
        ("or a class above", lambda: read >= own, "a larger label is no better label. When is a class right?"),
        ("or next to it", lambda: np.abs(read - own) <= 1, "the class next to it is wrong as well."),
        ("one of the two nearest", lambda: two_nearest(classes, order, labels),
         "a code counts as right if its class is among the two nearest means."),
        ("nearer than the mean of all", lambda: nearer_than(distances, classes, labels, codes),
         "you compare with the mean of all codes. Which mean is nearest of all?"),
        ("nearer than the median", lambda: nearer_than_others(np.median, distances, classes, labels),
         "you compare a distance with other codes' distances. Which mean is nearest?"),
        ("the most frequent of three neighbours", lambda: neighbours_vote(codes, labels, 3),
         "you look for the nearest codes, not for the nearest mean."),
        ("the most frequent of five neighbours", lambda: neighbours_vote(codes, labels, 5),
         "you look for the nearest codes, not for the nearest mean."),
        ("nearer than the average", lambda: nearer_than_others(np.mean, distances, classes, labels),
         "you compare a distance with other codes' distances. Which mean is nearest?"),
        ("the nearest neighbour", lambda: neighbours_vote(codes, labels, 1),
         "you look for the nearest code, not for the nearest mean."),
        ("always 1", lambda: np.ones(n, bool),
         "your result is always 1. Is a code its own neighbour or compared with itself, or is the share cut off?"),
    )()  # fmt: skip

    def shares(given, no_code=np.nan):
        return np.array([hits[given == each].mean() if (given == each).any() else no_code for each in occur])

    return choose(
        lambda: hits.mean(),
        ("the share that is wrong", lambda: 1 - hits.mean(), "this is the share of mistakes, not of right answers."),
        ("a count", lambda: hits.sum(), "this is how many are right. Which share of all is it?"),
        ("a count of mistakes", lambda: (~hits).sum(), "this is how many are wrong. Which share of all is right?"),
        ("percent", lambda: 100 * hits.mean(), "this is in percent: a share lies between 0 and 1."),
        ("one share for each class", lambda: shares(own),
         "there is one share for each class. The text asks for one of all codes."),
        ("the mean of the classes' shares", lambda: np.nanmean(shares(own)),
         "you average over the classes, and rare ones count as much as frequent ones. The share is that of all "
         "codes."),
        ("the mean of the guesses' shares", lambda: shares(read, 0).mean(),
         "you ask which share of those that were given a class belongs to it. The share is that of all codes."),
        ("the share of the worst class", lambda: np.nanmin(shares(own)), "you look at one class only."),
        ("the share of the best class", lambda: np.nanmax(shares(own)), "you look at one class only."),
        ("the share of the first class", lambda: shares(own)[0], "you look at one class only."),
        ("the share of the last class", lambda: shares(own)[-1], "you look at one class only."),
        ("divided by one code less", lambda: hits.sum() / max(n - 1, 1),
         "you divide by one code less. That belongs to a variance."),
        ("divided by the number of classes", lambda: hits.sum() / len(occur),
         "you divide by the number of classes. A share of what is it?"),
        ("divided by the number of latents", lambda: hits.sum() / mu.shape[1],
         "you divide by the number of latents. A share of what is it?"),
        ("the most frequent label of each nearest mean", lambda: purity(nearest, labels),
         "you count the most frequent label near each mean as right. Which class has that mean?"),
        ("right to wrong", lambda: hits.sum() / max((~hits).sum(), 1e-300),
         "this is how many right ones there are for a wrong one. Which share of all is right?"),
        ("right or wrong for each code", lambda: hits,
         "there is one answer for each code. Which share of them is right?"),
        ("the classes read off", lambda: read,
         "these are the classes that are read off. Which share of them is right?"),
        ("the share of the means whose nearest code is theirs", lambda: (labels[distances.argmin(0)] == classes).mean(),
         "you look for the code that is nearest to a mean. For each code, which mean is nearest?"),
        ("the mean squared distance", lambda: distances.min(1).mean(),
         "this is no share of codes, but a mean distance."),
        ("the mean distance", lambda: np.sqrt(distances.min(1)).mean(),
         "this is no share of codes, but a mean distance."),
        ("1 if all are right, else 0", lambda: float(hits.all()),
         "your result is 1 only if all codes are right. Which share of them is?"),
        ("without the last code", lambda: hits[:-1].sum() / n,
         "the last code does not count: where does the range end?"),
        ("without the first code", lambda: hits[1:].sum() / n,
         "the first code does not count: where does the range begin?"),
        ("in whole percent", lambda: np.round(hits.mean(), 2), "your share is rounded."),
        ("in tenths", lambda: np.round(hits.mean(), 1), "your share is rounded."),
        ("chance", lambda: 1 / len(occur), "this is chance. Where do the codes come in?"),
        ("nothing right", lambda: 0.0, "no code is right in yours. What is compared?"),
        ("the mean probability", lambda: probabilities(distances, classes, labels).mean(),
         "you turn distances into probabilities. Which share of the codes has its own class's mean nearest?"),
        ("how far the labels are apart", lambda: np.abs(read - own).mean(),
         "you subtract labels. When is a class right?"),
        ("above chance", lambda: hits.mean() - 1 / len(occur),
         "something is taken off: chance is no part of an accuracy."),
        ("between chance and 1", lambda: (hits.mean() - 1 / len(occur)) / max(1 - 1 / len(occur), 1e-9),
         "something is taken off: chance is no part of an accuracy."),
        ("in brackets", lambda: hits.mean(keepdims=True),
         "the value is right, its shape is not: the share is one number."),
    )()  # fmt: skip


def spread(codes):
    return codes.var(0)


def middle(codes):
    return codes[((codes - codes.mean(0)) ** 2).sum(1).argmin()]


def halved(codes):
    average = codes[0]
    for code in codes[1:]:
        average = (average + code) / 2
    return average


def lengths(codes):
    return np.linalg.norm(codes, axis=1)


def cosines(codes, means):
    return (codes @ means.T) / lengths(codes)[:, None] / lengths(means)


def leaving_out(codes, labels, classes):
    """Squared distances to the means, of which that of a code's own class is taken without the code."""
    belongs = labels[:, None] == classes
    count, total = belongs.sum(0), belongs.T @ codes
    rest = total - belongs[:, :, None] * codes[:, None]
    left = (count - belongs)[:, :, None]
    return ((codes[:, None] - np.where(left, rest / np.maximum(left, 1), np.inf)) ** 2).sum(2)


def cut(codes, parts):
    return np.array([part.mean(0) for part in np.array_split(codes, parts)])


def components(codes, number):
    centred = codes - codes.mean(0)
    return centred @ np.linalg.svd(centred, full_matrices=False)[2][:number].T


def two_nearest(classes, order, labels):
    return (classes[order[:, :2]] == labels[:, None]).any(1)


def nearer_than_others(middle, distances, classes, labels):
    own = np.where(labels[:, None] == classes, distances, np.inf).min(1)
    return own < middle(own)


def nearer_than(distances, classes, labels, codes):
    """Whether each code is nearer to its class's mean than to the mean of all."""
    own = np.where(labels[:, None] == classes, distances, np.inf).min(1)
    return own < ((codes - codes.mean(0)) ** 2).sum(1)


def probabilities(distances, classes, labels):
    likely = np.exp(-distances)
    return (likely * (labels[:, None] == classes)).sum(1) / likely.sum(1)


def purity(nearest, labels):
    return sum(np.unique(labels[nearest == each], return_counts=True)[1].max() for each in set(nearest)) / len(labels)


def neighbours_vote(codes, labels, number):
    """Whether the nearest other codes have the same label, most of them."""
    apart = ((codes[:, None] - codes) ** 2).sum(2)
    np.fill_diagonal(apart, np.inf)
    votes = labels[apart.argsort(1)[:, :number]]
    return np.array([np.bincount(vote).argmax() for vote in votes]) == labels


def both(h, condition):
    return {"h": np.array(h, float), "condition": np.array(condition, float)}


def labelled(*codes, labels):
    return {"mu": np.array(codes, float), "labels": np.array(labels)}


TEN, MANY = np.random.default_rng(0).integers(0, 10, 300), np.random.default_rng(1).standard_normal((300, 20))
NONE = [10, 1], [-10, 1], [-6, 8], [4, -9], [-4, -9], [6, 8]
NARROW, WIDE = [[1.5, -2], [3, 4], [-5, 6]], np.arange(15.0).reshape(3, 5) - 7.5
FUNCTIONS = [
    Function(
        "one_hot",
        written_out,
        labels_and_classes,
        one_hot_model,
        dtype="float64",
        special=[
            Special("one label", {"c": np.array([2]), "num_classes": 4}, "is an axis lost where it has length 1?"),
            Special("class 0 alone", {"c": np.array([0, 0]), "num_classes": 3}, "does class 0 leave a trace?"),
            Special("the last class", {"c": np.array([4, 1, 4]), "num_classes": 5},
                "which classes are there, if they are counted from 0?"),
            Special("labels of which some come again", {"c": np.array([1, 1, 0, 1, 0]), "num_classes": 3},
                "each image has a row of its own, whatever the others are."),
            Special("every class once, in order", {"c": np.arange(4), "num_classes": 4},
                "each image has a row of its own, whatever the others are."),
            Special("one class", {"c": np.array([0, 0, 0]), "num_classes": 1},
                "is an axis lost where it has length 1?"),
            Special("many images and classes", {"c": TEN * 3, "num_classes": 40},
                "is one of the sizes fixed in your code?"),
        ],
    ),
    Function(
        "append_condition",
        side_by_side,
        two_matrices,
        append_model,
        special=[
            Special("a condition that is narrower than h", both(WIDE, NARROW),
                "the two need not be equally wide."),
            Special("a condition that is wider than h", both(NARROW, WIDE),
                "the two need not be equally wide."),
            Special("one-hot conditions", both([[0.5, -2, 3], [1, 2.5, 0]], np.eye(3)[[2, 0]]),
                "what do zeros and ones do in yours?"),
            Special("one image", both([[0.5, -2, 3]], [[1.5, 7]]),
                "is an axis lost where it has length 1?"),
            Special("a single column each", both([[0.5], [-2]], [[1.5], [7]]),
                "is an axis lost where it has length 1?"),
            Special("as many images as columns", both(np.arange(9.0).reshape(3, 3), -np.arange(9.0).reshape(3, 3)),
                "which axis counts the images?"),
            Special("many images and columns", both(np.arange(9000.0).reshape(300, 30), np.eye(300)[:, :20]),
                "is one of the sizes fixed in your code?"),
        ],
    ),
    Function(
        "nearest_mean_accuracy",
        accuracy,
        codes_and_labels,
        share_model,
        special=[
            Special("codes that are far apart", labelled([900, 0], [-900, 0], [0, 800], [0, -700], labels=[0, 0, 1, 1]),
                "distances have no upper limit."),
            Special("codes with one latent", labelled([1], [2], [9], [4], [8.5], [1.5], labels=[0, 0, 1, 1, 1, 1]),
                "is an axis lost where it has length 1?"),
            Special("one code for each class", labelled([1, 2], [-3, 1], [0, 5], labels=[5, 2, 3]),
                "each code is its class's mean here."),
            Special("classes far from 0", labelled([1, 2], [2, 2.5], [-3, 1], [-2, 0], labels=[70, 70, 12, 12]),
                "are the classes those from 0 to 9 in yours?"),
            Special("codes of which none is right", labelled(*NONE, labels=[1, 1, 2, 2, 3, 3]),
                "no code may be right at all."),
            Special("many codes of ten classes", {"mu": MANY + 0.3 * np.eye(20)[TEN], "labels": TEN},
                "is one of the sizes fixed in your code?"),
        ],
        shrink=False,
    ),
]  # fmt: skip
