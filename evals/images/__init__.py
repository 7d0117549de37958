"""Images on disk: folders of images, which image belongs to which prompt, reading ahead."""
