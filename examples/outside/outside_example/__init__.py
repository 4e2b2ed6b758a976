"""What a package from outside can add to magnetic-mirror, one file each."""
