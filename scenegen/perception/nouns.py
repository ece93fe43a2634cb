"""What objects are called: everyday nouns, and which of them other vocabularies mean."""

from __future__ import annotations

NOUNS = (
    "airplane", "apple", "backpack", "ball", "banana", "barrel", "baseball bat", "baseball glove", "basket", "bathtub",
    "bear", "bed", "bench", "bicycle", "bird", "boat", "book", "bottle", "bowl", "box", "bread", "broccoli", "bucket",
    "building", "bus", "cabinet", "cake", "can", "candle", "car", "carrot", "cat", "cell phone", "chair", "clock",
    "couch", "cow", "cup", "dog", "donut", "elephant", "fire hydrant", "food", "fork", "frisbee", "giraffe", "handbag",
    "horse", "hot dog", "jar", "keyboard", "kite", "knife", "lamp", "laptop", "microwave", "motorcycle", "mouse",
    "orange", "oven", "pan", "parking meter", "person", "pillow", "pizza", "plate", "pot", "potted plant",
    "refrigerator", "remote", "rock", "sandwich", "scissors", "sheep", "shelf", "sink", "skateboard", "skis",
    "snowboard", "spoon", "stool", "stop sign", "suitcase", "surfboard", "table", "teddy bear", "tennis racket", "tie",
    "toilet", "tool", "toothbrush", "toy", "traffic light", "train", "tree", "truck", "tv", "umbrella", "vase",
    "wine glass", "zebra",
)  # fmt: skip

SYNONYMS = {
    "armchair": "chair", "bar_chair": "chair", "bookcase": "shelf", "book_row": "book", "book_stack": "book",
    "bush": "potted plant", "cactus": "potted plant", "crate": "box", "cube": "box", "desk": "table",
    "dining table": "table", "dishwasher": "cabinet", "flower_plant": "potted plant", "food_box": "box",
    "fridge": "refrigerator", "generic_fruit": "food", "hammer": "tool", "axe": "tool", "shovel": "tool",
    "drill": "tool", "clamp": "tool", "saw": "tool", "driver": "tool", "firehydrant": "fire hydrant",
    "light": "lamp", "lantern": "lamp", "monitor": "tv", "office_chair": "chair", "plant": "potted plant",
    "rice": "food", "fish": "food", "burger": "sandwich", "snake_plant": "potted plant", "sofa": "couch",
    "sports ball": "ball", "stove": "oven", "strawberry": "food", "television": "tv", "tempeh": "food", "tofu": "food",
    "tv_stand": "cabinet", "wineglass": "wine glass", "container": "box", "counter": "table", "ship": "boat",
    "spaceship": "toy", "lego": "toy", "toy_blocks": "toy", "pumpkin": "food", "coffee": "cup", "nightstand": "cabinet",
    "closet": "cabinet", "chest": "box", "cuttingboard": "plate", "pitcher": "vase", "mug": "cup", "sofa chair": "chair",
    "pear": "food", "peach": "food", "plum": "food", "lemon": "food", "mustard": "bottle", "ketchup": "bottle",
    "bleach": "bottle", "rocks": "rock", "log": "tree",
    "man": "person", "woman": "person", "boy": "person", "girl": "person", "child": "person", "people": "person",
}  # fmt: skip
"""Names of data sets that mean one of `NOUNS`."""


def noun_of(label: str) -> str | None:
    """Which of `NOUNS` a label in plain words means, by its last words; None for none.

    >>> noun_of("coffee mug"), noun_of("red wine glass"), noun_of("gizmo")
    ('cup', 'wine glass', None)
    """
    words = label.lower().split()
    for start in range(len(words)):
        name = " ".join(words[start:])
        noun = SYNONYMS.get(name, name)
        if noun in NOUNS:
            return noun
    return None


def noun_number(name: str) -> int:
    """Which of `NOUNS` a data set's name means; -1 for none."""
    noun = SYNONYMS.get(name, name)
    return NOUNS.index(noun) if noun in NOUNS else -1
