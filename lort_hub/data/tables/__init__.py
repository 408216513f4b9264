"""Read tables of images: of encoded images, or lists of image files beside their folder.

1. The image column is found by what it holds: images, encoded bytes, or names of files that are there.
2. The label column is found by its type, its usual name, or as the only one whose values repeat.
3. Label names of all files agree by name, whatever their order; what cannot be told apart is refused.
4. A split is told by the name of a file or of its folder, or by a column of nothing but names of splits.
"""
