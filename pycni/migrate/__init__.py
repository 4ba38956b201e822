"""What the reference plugins left: DEL, GC and CHECK of the attachments that they made."""
