"""What a document is, whose year it belongs to, and whether it is sensitive: from its words and structure.

Here: clues, never decisions about keeping. Not here: whether it is dangerous (`gateway.inspect.scan`).

    kind, media_type = detect(document)
    classification, facts = classify(read_text(document, limits), media_type)
"""
