"""The real deepdiff, for tests/deepdiff_fold.rs.

One seed a line on stdin. The answer is one line of words in hexadecimal: the pickle of a random
dict, the deltas of three changes to it, and the pickle of what deepdiff makes of dict and deltas.
"""

import copy
import pickle
import random
import sys

from deepdiff import DeepDiff, Delta


def value(rng, depth):
    if depth == 0 or rng.random() < 0.5:
        return rng.choice(
            [
                lambda: None,
                lambda: rng.random() < 0.5,
                lambda: rng.randrange(4),
                lambda: rng.randrange(3) / 2,
                lambda: rng.choice(["a", "b", "it's", "Größe", ""]),
                lambda: rng.randbytes(2),
            ]
        )()
    if rng.random() < 0.5:
        return [value(rng, depth - 1) for _ in range(rng.randrange(9))]
    if rng.random() < 0.1:
        return rng.choice([(1, 2.5), {1, 2}])
    return {key(rng): value(rng, depth - 1) for _ in range(rng.randrange(5))}


def key(rng):
    if rng.random() < 0.03:
        return rng.choice([3, "it's", "a\\b", 'x"y'])
    return rng.choice(["loc", "scale", "mesh data", "Größe", "x.y", "a[0]"])


def change(rng, data, depth=3):
    """Changes a few places, as an artist does."""
    if isinstance(data, list):
        for _ in range(rng.randrange(3)):
            if data and rng.random() < 0.3:
                del data[rng.randrange(len(data))]
            else:
                data.insert(rng.randrange(len(data) + 1), value(rng, 1))
    places = data.keys() if isinstance(data, dict) else range(len(data))
    for place in list(places):
        if rng.random() < 0.3:
            data[place] = value(rng, 2)
        elif isinstance(data[place], (dict, list)) and depth:
            change(rng, data[place], depth - 1)
    if isinstance(data, dict):
        if data and rng.random() < 0.3:
            del data[rng.choice(list(data))]
        if rng.random() < 0.5:
            data[key(rng)] = value(rng, 2)


for line in sys.stdin:
    rng = random.Random(int(line))
    base = {key(rng): value(rng, 3) for _ in range(6)}
    words = [pickle.dumps(base, 4)]
    state = base
    for _ in range(3):
        target = copy.deepcopy(state)
        change(rng, target)
        delta = Delta(DeepDiff(state, target, cache_size=5000)).dumps()
        words.append(delta)
        # Through pickle, as it goes over the wire: what comes out shares nothing.
        state = pickle.loads(words[0]) if len(words) == 2 else state
        state = state + Delta(delta)
    words.append(pickle.dumps(state, 4))
    print(*[word.hex() for word in words], flush=True)
