"""What every engine's backup shares: settings, bucket, epochs, state, restore points and the drill."""
