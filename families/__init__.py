"""What a base is made of, for training and drawing alike: its folder, its parts, what its denoiser takes and gives."""
