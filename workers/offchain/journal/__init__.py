"""What must outlive a killed task processor."""
