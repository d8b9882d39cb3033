"""What every part of the server speaks of: the mail object, its recipients, outcomes, reasons and queue ids (pure)."""
