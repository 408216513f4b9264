"""Read a folder of pictures as training and test rows with class labels, by four rules.

1. The split is the first folder below the data folder, in capitals or not: train, training; test, testing;
   val, valid, validation, dev, eval; or longer, as seg_train, seg_test. Without one, all is training.
2. The class is the next folder, and what lies deeper belongs to it. Where that is in doubt, it is refused.
3. Links are followed, once; what Pillow opens is read, whatever its extension.
4. Nothing is passed over in silence: a `FolderReading` counts what was not read, and says why.
"""
