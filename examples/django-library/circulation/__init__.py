"""Who reads what: members, loans, holds, fines and payments."""
